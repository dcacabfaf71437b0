"""Planner and solver that talk in text: what a dense hand-over has to beat."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import dspy

from densecore.arguments import whole
from densecore.dspy.plain import PlainAdapter
from densecore.errors import ArgumentError
from densecore.programs.plain_chain import TOKENS, working_signature
from densecore.programs.task import Task, answer_of

PLAN_TOKENS = 160
"""Of a plan, at most."""
PLAN = "Write a short plan for solving the problem: list the steps, do not solve it."
FOLLOW = "Follow the plan."


class PromptPlanSolve(dspy.Module):  # type: ignore[misc]
    """The planner writes a plan, the solver reads question and plan and writes the solution.

    Args:
        task: What is asked.
        planner: Another language model for the plan; the one in use by default.
        solver: Another for the solution.
        plan_tokens: Of a plan, at most.
        tokens: Of a solution, at most.
    """

    adapter = "plain"
    """It asks in its own way, whatever adapter is set."""
    limits = ("plan_tokens", "tokens")

    def __init__(
        self,
        task: Task,
        *,
        planner: dspy.LM | None = None,
        solver: dspy.LM | None = None,
        plan_tokens: int = PLAN_TOKENS,
        tokens: int = TOKENS,
    ) -> None:
        super().__init__()
        for name, lm in (("planner", planner), ("solver", solver)):
            if lm is not None and not isinstance(lm, dspy.BaseLM):
                raise ArgumentError(f"{name} = {lm!r:.80}: give a language model from Python, as dspy.LM(...)")
        self.task = task.name
        self.plan_tokens, self.tokens = whole("plan_tokens", plan_tokens, 1), whole("tokens", tokens, 1)
        self.reads = tuple(task.signature.input_fields)
        self.planner, self.solver = planner, solver
        asked = dspy.Signature("question -> plan", PLAN).delete("question")
        for name, field in reversed(task.signature.input_fields.items()):
            asked = asked.prepend(name, field, field.annotation)
        followed = working_signature(task, "plan")
        self.plan = dspy.Predict(asked, max_tokens=self.plan_tokens)
        self.solve = dspy.Predict(followed.with_instructions(f"{FOLLOW} {task.working}"), max_tokens=self.tokens)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Plan, then solve."""
        with dspy.context(adapter=PlainAdapter()):
            with _use(self.planner):
                plan = self.plan(**inputs).plan
            with _use(self.solver):
                solution = self.solve(**inputs, plan=plan).solution
        return dspy.Prediction(plan=plan, solution=solution, answer=answer_of(solution, self.task))


def _use(lm: dspy.LM | None) -> Any:
    return nullcontext() if lm is None else dspy.context(lm=lm)
