"""Why a word problem's answer is wrong, as far as what was written shows it."""

from __future__ import annotations

from collections.abc import Callable

from densecore.metrics.equations import equations
from densecore.metrics.figures import number
from densecore.metrics.matches import gsm8k_match

FAILURES = ("no answer", "format", "arithmetic", "wrong operation", "no working")
"""The classes of :func:`failure`, in the order in which they are tried."""


def failure(
    text: str | None, predicted: object, gold: object, *, match: Callable[[object, object], bool] = gsm8k_match
) -> str | None:
    """The class of a wrong answer to a word problem; None if the answer is right.

    The first class that fits:

    - ``no answer``: neither the text nor the answer taken from it holds a number;
    - ``format``: the text holds numbers and the answer none, or the text comes to the right number and another was
      taken for the answer;
    - ``arithmetic``: an equation in the text is false, see :func:`densecore.metrics.equations`;
    - ``wrong operation``: every equation holds, and they lead to the wrong number;
    - ``no working``: a wrong number, and no equation to judge it by.

    Args:
        text: Everything the program wrote.
        predicted: The answer that was taken from it; None if none was.
        gold: The answer that is right, or a list of accepted ones.
        match: Says of a prediction and the gold answer whether it is right.

    >>> failure("3 * 4 = 13, so 13 pens.", "13", "12"), failure("3 + 4 = 7 pens.", "7", "12")
    ('arithmetic', 'wrong operation')
    >>> failure("I cannot say.", None, "12"), failure("3 * 4 = 12", "all of them", "12"), failure("", "7", "12")
    ('no answer', 'format', 'no working')
    """
    text = text or ""
    if match(predicted, gold):
        return None
    if number(predicted) is None:
        return "no answer" if number(text) is None else "format"
    if match(text, gold):
        return "format"
    found = equations(text)
    if not found:
        return "no working"
    return "wrong operation" if all(equation.holds for equation in found) else "arithmetic"
