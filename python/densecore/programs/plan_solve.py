"""Planner and solver that talk in hidden states: the planner thinks, nothing is printed, the solver answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

from densecore.arguments import optional, whole
from densecore.context import Context
from densecore.dspy.lm import DenseLM
from densecore.dspy.plain import PlainAdapter
from densecore.errors import ArgumentError
from densecore.hidden import Hidden
from densecore.model import Model
from densecore.programs.plain_chain import working_signature
from densecore.programs.task import MARK, Task
from densecore.results import Thought, Usage
from densecore.runs.meter import record

OPENING = "Step 1:"
"""How the planner's turn begins: without it, chains are longer and no better."""
STEPS = 300
"""Latent steps at most; chains that are cut short lose their answer."""
ANSWER_TOKENS = 10
MODES = ("mixture", "state", "token")
HAND_OVERS = ("context", "vectors")


class PlanSolve(dspy.Module):  # type: ignore[misc]
    """The planner takes latent steps; the solver goes on from them and writes the answer alone.

    Training-free: the vector that is fed back is the probability-weighted mixture of the likeliest tokens' embeddings, as
    :meth:`densecore.Model.think` makes it, until the model would end or give its answer.

    Args:
        task: What is asked.
        mode: ``"mixture"``, or ``"token"``: the control, in which ordinary tokens are fed back and not printed.
        steps: Latent steps at most.
        hand_over: ``"context"``: the solver goes on from the planner's keys and values. ``"vectors"``: it reads the question
            itself, then the planner's vectors, through ``edge``.
        last: How many of the last vectors are handed over; all by default.
        edge: From the planner's vectors to the solver's, a trained map; as they are by default.
        answer_tokens: Of the answer, at most.
    """

    adapter = "plain"
    """It asks in its own way, whatever adapter is set."""
    needs_states = True
    """A language model behind an API cannot run it."""
    greedy = True
    """It draws nothing, whatever temperature its language model has."""
    limits = ("steps", "answer_tokens")

    def __init__(
        self,
        task: Task,
        *,
        mode: str = "mixture",
        steps: int = STEPS,
        hand_over: str = "context",
        last: int | None = None,
        edge: Callable[[Hidden], Hidden] | None = None,
        answer_tokens: int = ANSWER_TOKENS,
    ) -> None:
        super().__init__()
        for name, value, known in (("mode", mode, MODES), ("hand_over", hand_over, HAND_OVERS)):
            if value not in known:
                raise ArgumentError(f"{name} = {value!r:.80}: there are {', '.join(known)}")
        if hand_over == "context" and (edge is not None or last is not None):
            raise ArgumentError("edge, last: vectors go through an edge, a context does not; say hand_over='vectors'")
        if edge is not None and not callable(edge):
            raise ArgumentError(f"edge = {edge!r:.80}: give a function from Python, from vectors to vectors")
        self.reads = tuple(task.signature.input_fields)
        self.mode, self.steps = mode, whole("steps", steps, 1)
        self.answer_tokens = whole("answer_tokens", answer_tokens, 1)
        self.hand_over, self.last, self.edge = hand_over, optional("last", last, 1), edge
        self.plan = dspy.Predict(
            working_signature(task)
        )  # its instructions and demonstrations; it is never asked for text

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Think, then answer.

        The prediction's ``thought`` is what the likeliest tokens of the steps spell, for the reader of an error analysis.
        """
        model = dense_model()
        question = PlainAdapter().format(self.plan.signature, self.plan.demos, inputs)
        thought = self._think(model, question)
        context = thought.context if self.hand_over == "context" else self._read(model, question, thought)
        found = context.generate(f"\n{MARK} ", max_tokens=self.answer_tokens, stop="\n")
        record(found.usage)
        spelt = OPENING + model.detokenize(thought.ids, special=False)
        return dspy.Prediction(thought=spelt, answer=found.text.strip(), latent_steps=thought.usage.latent_steps)

    def _think(self, model: Model, question: list[dict[str, Any]]) -> Thought:
        mark = model.tokenize(MARK)
        context = _prefilled(model, question)
        thought = context.think(self.steps, OPENING, mode=self.mode, stop=mark if len(mark) == 1 else ())
        record(thought.usage)
        return thought

    def _read(self, model: Model, question: list[dict[str, Any]], thought: Thought) -> Context:
        vectors = thought.vectors if self.last is None else thought.vectors[-self.last :]
        context = _prefilled(model, question)
        before = context.length
        context.extend((OPENING, vectors if self.edge is None else self.edge(vectors)))
        _count(before, context.length)
        return context


def dense_model() -> Model:
    """The model behind DSPy's language model, which must be ours: others keep their states to themselves."""
    lm = dspy.settings.lm
    if not isinstance(lm, DenseLM):
        raise ArgumentError(
            f"lm = {lm!r:.80}: hidden states need densecore.dspy.DenseLM; PromptPlanSolve runs with any language model"
        )
    return lm.dense


def _prefilled(model: Model, question: list[dict[str, Any]]) -> Context:
    context = model.prefill(question)
    _count(0, context.length)
    return context


def _count(before: int, after: int) -> None:
    """Count what a context has read, as if none of it had been kept from another call."""
    record(Usage(after - before, 0, 0, 0, after - before, before, 0.0, 0.0))
