"""A chain of thought as a plain conversation: no field markers, the answer behind a mark."""

from __future__ import annotations

from typing import Any

import dspy

from densecore.arguments import whole
from densecore.dspy.plain import PlainAdapter
from densecore.programs.task import Task, answer_of

TOKENS = 400
"""Of a solution, at most."""


class PlainChainOfThought(dspy.Module):  # type: ignore[misc]
    """One answer that works step by step, then gives the result on a line of its own."""

    adapter = "plain"
    """It asks in its own way, whatever adapter is set."""
    limits = ("tokens",)
    """Settings that bound what it writes, whatever its language model is told."""

    def __init__(self, task: Task, *, tokens: int = TOKENS) -> None:
        super().__init__()
        self.task, self.tokens = task.name, whole("tokens", tokens, 1)
        self.reads = tuple(task.signature.input_fields)
        self.solve = dspy.Predict(working_signature(task), max_tokens=self.tokens)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Solve."""
        with dspy.context(adapter=PlainAdapter()):
            solution = self.solve(**inputs).solution
        return dspy.Prediction(solution=solution, answer=answer_of(solution, self.task))


def working_signature(task: Task, *more: str) -> type[dspy.Signature]:
    """The task's inputs, and ``more`` texts after them, to one text with working and answer."""
    signature: type[dspy.Signature] = dspy.Signature("question -> solution", task.working).delete("question")
    for name, field in reversed(task.signature.input_fields.items()):
        signature = signature.prepend(name, field, field.annotation)
    for name in more:
        signature = signature.insert(-1, name, dspy.InputField(), str)
    return signature
