"""Reasoning and acting in turns: a thought, a tool, what the tool says, until the model gives its answer.

As Yao et al. (2023) have it. Unlike ``dspy.ReAct``, every tool takes one text, which is less to get wrong than JSON; a step
that cannot be read ends the acting and not the program; tools belong to a call, for every row brings its own passages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import dspy
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

from densecore.arguments import whole
from densecore.data import Paragraph
from densecore.errors import ArgumentError
from densecore.programs.calculator import calculate, show
from densecore.programs.search import Make, maker, passages, title
from densecore.programs.task import Task
from densecore.retrieval.bm25 import words

FINISH = "finish"
_HELP = {
    "calculator": "gives the value of arithmetic, such as (12 + 3) * 4",
    "search": "takes a few words and shows the passages that fit them best",
    "lookup": "takes the title of a passage and shows that passage",
}
Tools = dict[str, Callable[[str], str]]


class ReAct(dspy.Module):  # type: ignore[misc]
    """An agent with a calculator for problems, or with a search and a look-up for questions over passages.

    It ends with the tool ``finish``. If it never does, repeats a step or writes one that cannot be read, the answer is
    asked for with what was found so far. A tool's errors are what the tool says.

    Args:
        task: What is asked.
        max_iters: Steps at most.
        k: Passages that a search shows.
        search: As in :class:`densecore.programs.multi_hop.MultiHop`.
    """

    def __init__(self, task: Task, *, max_iters: int = 5, k: int = 2, search: str | Make = "bm25") -> None:
        super().__init__()
        self.max_iters, self.k, self.make = whole("max_iters", max_iters, 1), whole("k", k, 1), maker(search)
        over_passages = "context" in task.signature.input_fields
        self.reads = ("question", "paragraphs") if over_passages else ("question",)
        names = ("search", "lookup") if over_passages else ("calculator",)
        asked = task.signature.delete("context") if over_passages else task.signature
        asked = asked.append("steps", dspy.InputField(desc="what was done so far"), list[str])
        self.act = dspy.Predict(_acting(asked, names))
        self.answer = dspy.ChainOfThought(asked)

    def forward(self, question: str, paragraphs: Sequence[Paragraph] = ()) -> dspy.Prediction:
        """Act until the answer is there. The prediction's ``reasoning`` has the steps, a line each."""
        tools = self._tools(paragraphs)
        steps: list[str] = []
        done: set[tuple[str, str]] = set()
        while len(steps) < self.max_iters:
            try:
                found = _ask(self.act, question, steps)
            except AdapterParseError:
                break
            given = found.tool_input.strip()
            if found.tool == FINISH and given:
                return dspy.Prediction(reasoning="\n".join([*steps, found.thought]), answer=self._finished(given))
            if found.tool == FINISH or (found.tool, given) in done:
                break
            done.add((found.tool, given))
            steps.append(f"{found.thought} {found.tool}: {given} -> {_said(tools[found.tool], given)}")
        last = _ask(self.answer, question, steps)
        return dspy.Prediction(reasoning="\n".join([*steps, last.reasoning]), answer=last.answer)

    def _finished(self, given: str) -> str:
        """The answer: of problems a number, so arithmetic is computed, which small models leave undone."""
        if "paragraphs" in self.reads:
            return given
        try:
            return show(calculate(given))
        except ArgumentError:
            return given

    def _tools(self, paragraphs: Sequence[Paragraph]) -> Tools:
        """The tools of one call."""
        if "paragraphs" not in self.reads:
            return {"calculator": lambda expression: show(calculate(expression))}
        texts = passages(paragraphs)
        found = self.make(texts)
        by_title = {" ".join(words(title(text))): text for text in texts}

        def search(query: str) -> str:
            return "\n".join(texts[hit.index] for hit in found.search(query, self.k))

        def lookup(name: str) -> str:
            text = by_title.get(" ".join(words(name)))
            if text is None:
                raise ArgumentError(f"no passage has the title {name!r:.80}; there are: {'; '.join(map(title, texts))}")
            return text

        return {"search": search, "lookup": lookup}


def _acting(signature: type[dspy.Signature], names: tuple[str, ...]) -> type[dspy.Signature]:
    """From question and steps to the next step."""
    answer = signature.output_fields["answer"].json_schema_extra["desc"]
    tools = [f"{name}: {_HELP[name]}" for name in names]
    told = [
        signature.instructions,
        "Take one step with one tool:",
        *tools,
        f"{FINISH}: takes the final answer, {answer}",
    ]
    choices = (*names, FINISH)
    acting: type[dspy.Signature] = (
        signature.delete("answer")
        .append("thought", dspy.OutputField(desc="one sentence"), str)
        .append("tool", dspy.OutputField(), Literal[choices])
        .append("tool_input", dspy.OutputField(desc="a text"), str)
        .with_instructions("\n".join(told))
    )
    return acting


def _ask(predictor: dspy.Module, question: str, steps: list[str]) -> dspy.Prediction:
    """Ask with the steps so far; where they do not fit, without the oldest."""
    for first in range(len(steps)):
        try:
            return predictor(question=question, steps=steps[first:])
        except ContextWindowExceededError:
            continue
    return predictor(question=question, steps=[])


def _said(tool: Callable[[str], str], given: str) -> str:
    try:
        return tool(given)
    except ArgumentError as error:
        return f"Error: {error}"
