"""What commands share: the model they mean, and numbers that argparse checks, naming the option, with exit status 2."""

from __future__ import annotations

import argparse
import math

MODEL = "qwen2.5-coder-1.5b-instruct"
"""What computes unless the user says otherwise."""
MOST = 2**31 - 1


def count(text: str) -> int:
    """A whole number of 1 or more.

    >>> count("64")
    64
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r:.80} is no whole number from 1 to {MOST}")
    return number


def measure(text: str) -> float:
    """A finite number of 0 or more.

    >>> measure("0.7")
    0.7
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r:.80} is no number of 0 or more")
    return number
