"""What is to be said about an answer, so that a language model can write better instructions: for GEPA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

from densecore import metrics
from densecore.data import Row
from densecore.data.gsm8k import plain
from densecore.programs.task import Task, Verdict, written

SHOWN = 600
"""Characters of a worked solution that are shown."""
_WHY = {
    "no answer": "No answer was given.",
    "format": "The working reaches the right value, but the answer field does not hold it: that field must be the number alone.",
    "arithmetic": "A calculation is wrong.",
    "wrong operation": "Each calculation holds, but they lead elsewhere: a wrong operation or a wrong quantity was used, "
    "or a step is missing.",
    "no working": "There is no calculation to follow: every step should be written as an equation.",
    "too long": "The answer holds the right words among others: it should be those words alone.",
    "overlap": "The answer shares some words with the right one, but is not it.",
    "another answer": "The answer is another one.",
}


def metric_of(task: Task, tick: Callable[[], None] = lambda: None) -> Callable[..., Any]:
    """The task's score where a score is asked for; score and feedback where a predictor is to be improved.

    ``tick`` is called at each program run.
    """

    def metric(example: Any, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        tick()
        text = written(prediction)
        verdict = task.judge(example.dspy_row, getattr(prediction, "answer", None), text)
        if pred_name is None:
            return verdict.score
        return dspy.Prediction(score=verdict.score, feedback=feedback(example.dspy_row, verdict, text))

    return metric


def feedback(row: Row, verdict: Verdict, text: str) -> str:
    """What was wrong, what is right, and where to see it.

    >>> row = Row("1", "3 boxes of 4 pens, how many?", ("12",), "There are 3 * 4 = 12 pens.")
    >>> print(feedback(row, Verdict(False, 0.0, "13", "arithmetic"), "3 * 4 = 13, so 13"))
    Wrong: the answer was '13', and '12' is right. A calculation is wrong. False equations: 3 * 4 = 13.
    A right solution: There are 3 * 4 = 12 pens.
    """
    false = [equation.text for equation in metrics.equations(text) if not equation.holds] if row.solution else []
    if verdict.correct:
        return "Right." + (f" But these equations are false: {'; '.join(false)}." if false else "")
    parts = [f"Wrong: the answer was {verdict.prediction!r:.120}, and {row.answer!r} is right."]
    parts.append(_WHY.get(verdict.failure or "", f"Failure: {verdict.failure}."))
    if false:
        parts.append(f"False equations: {'; '.join(false)}.")
    if row.supporting:
        parts.append(f"The evidence stands in: {'; '.join(row.supporting)}.")
    said = " ".join(parts)
    return f"{said}\nA right solution: {plain(row.solution)[:SHOWN]}" if row.solution else said
