"""Scores: is an answer right, what went wrong, and how sure is a difference.

>>> from densecore import metrics
>>> metrics.gsm8k_match("She makes 9 * 2 = $18.00 a day.", "18")
True
>>> metrics.exact_match("the Eiffel Tower!", ["Eiffel Tower"]), metrics.f1("in Paris, France", ["Paris"])
(True, 0.5)
>>> low, high = metrics.interval(40, 100)
>>> round(low, 3), round(high, 3)
(0.309, 0.498)
"""

from __future__ import annotations

from densecore.metrics.chance import Difference, interval, mcnemar, paired_bootstrap
from densecore.metrics.equations import Equation, equations
from densecore.metrics.failures import FAILURES, failure
from densecore.metrics.figures import number
from densecore.metrics.matches import dspy_gsm8k_match, gsm8k_match
from densecore.metrics.texts import exact_match, f1, hotpot_f1, normalize_answer

__all__ = [
    "FAILURES",
    "Difference",
    "Equation",
    "dspy_gsm8k_match",
    "equations",
    "exact_match",
    "f1",
    "failure",
    "gsm8k_match",
    "hotpot_f1",
    "interval",
    "mcnemar",
    "normalize_answer",
    "number",
    "paired_bootstrap",
]
