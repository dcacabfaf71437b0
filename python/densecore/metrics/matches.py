"""Whether a numeric answer is right: by value, and by the rule of DSPy beside which it is reported."""

from __future__ import annotations

from collections.abc import Iterable

from densecore.errors import ArgumentError
from densecore.metrics.figures import number


def gsm8k_match(prediction: object, gold: object) -> bool:
    """Whether the numbers are equal, exactly; see :func:`number` for what is read as one.

    Args:
        prediction: A short answer, a whole solution, or a number. Without a number it is wrong.
        gold: The answer that is right, or a list of accepted ones.

    Raises:
        ArgumentError: No gold answer holds a number.

    >>> gsm8k_match("1,000", "1000"), gsm8k_match("-3", "3"), gsm8k_match("0.5", "1/2"), gsm8k_match("", "3")
    (True, False, True, False)
    """
    several = isinstance(gold, Iterable) and not isinstance(gold, (str, bytes))
    accepted = [number(entry) for entry in (gold if isinstance(gold, Iterable) and several else (gold,))]
    right = {value for value in accepted if value is not None}
    if not right:
        raise ArgumentError(f"gold = {gold!r:.80}: the answer that is right must hold a number")
    return number(prediction) in right


def dspy_gsm8k_match(prediction: object, gold: object) -> bool:
    """What ``dspy.datasets.gsm8k.gsm8k_metric`` says, fault for fault, to be reported beside :func:`gsm8k_match`.

    Of the first line of either text it takes the last word with a digit in it, of that the part before the first full
    stop, and of that the digits. So a minus and all decimals are dropped, and where there is no number it reads 0.

    >>> dspy_gsm8k_match("-3", "3"), dspy_gsm8k_match("2.9", "2"), dspy_gsm8k_match("no idea", "0")
    (True, True, True)
    """
    return _digits(str(prediction)) == _digits(str(gold))


def _digits(text: str) -> int:
    line = text.strip().split("\n")[0]
    words = [word for word in line.split() if any(map(str.isdigit, word))]
    kept = "".join(filter(str.isdigit, words[-1].split(".")[0])) if words else ""
    try:
        return int(kept)
    except ValueError:  # nothing before the full stop, a digit such as ², or thousands of digits
        return 0
