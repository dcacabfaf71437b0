"""Programs of one step: the answer alone, with reasoning before it, with demonstrations before that."""

from __future__ import annotations

from typing import Any

import dspy

from densecore.programs.shots import shots
from densecore.programs.task import Task


class ZeroShot(dspy.Module):  # type: ignore[misc]
    """The answer at once: ``dspy.Predict``."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.reads = tuple(task.signature.input_fields)
        self.answer = dspy.Predict(task.signature)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Answer."""
        return self.answer(**inputs)


class ChainOfThought(dspy.Module):  # type: ignore[misc]
    """Reasoning, then the answer: ``dspy.ChainOfThought``."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.reads = tuple(task.signature.input_fields)
        self.answer = dspy.ChainOfThought(task.signature)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Reason, then answer."""
        return self.answer(**inputs)


class FewShot(ChainOfThought):
    """The same after demonstrations written by hand."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        for predictor in self.predictors():
            predictor.demos = shots(task)
