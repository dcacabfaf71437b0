"""How much of a result is chance: an interval for a share, and two ways to compare two programs on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from densecore import arguments
from densecore.errors import ArgumentError

_Z = 1.959963984540054  # the 97.5% point of the normal distribution
_CELLS = 2**20  # of one batch of resampled rows: 8 MiB


class Difference(NamedTuple):
    """A mean difference and its 95% interval."""

    difference: float
    low: float
    high: float


def interval(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval for a share of ``correct`` out of ``n``.

    >>> [round(bound, 4) for bound in interval(0, 20)]
    [0.0, 0.1611]
    """
    arguments.whole("n", n, 1)
    arguments.whole("correct", correct, 0, n)
    share, z2 = correct / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends the bound is the end itself; rounding must not cross it.
    return (0.0 if correct == 0 else middle - half), (1.0 if correct == n else middle + half)


def paired_bootstrap(a: Sequence[float], b: Sequence[float], seed: int = 0, *, rounds: int = 10_000) -> Difference:
    """The mean of ``a`` less that of ``b`` over the same rows, with the 95% percentile interval of the bootstrap.

    Rows are drawn with replacement, both scores of a row together; the same seed gives the same interval.

    >>> paired_bootstrap([1, 1, 1, 0] * 25, [0, 1, 1, 0] * 25)
    Difference(difference=0.25, low=0.17, high=0.34)
    """
    first, second = _scores("a", a), _scores("b", b)
    _alike(len(first), len(second))
    gaps = first - second
    draws = np.random.default_rng(arguments.whole("seed", seed, 0, 2**64 - 1))
    left, means = arguments.whole("rounds", rounds, 1), []
    while left:
        batch = min(left, max(1, _CELLS // len(gaps)))
        means.append(gaps[draws.integers(0, len(gaps), (batch, len(gaps)))].mean(axis=1))
        left -= batch
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Difference(float(gaps.mean()), float(low), float(high))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """McNemar's exact two-sided p: how often two equally good programs would differ at least as unevenly.

    Only rows count that one program got right and the other did not; among those, either is as likely as a coin's
    side. Without any the answer is 1.

    >>> mcnemar([True] * 6 + [False] * 4, [False] * 6 + [False] * 4)
    0.03125
    """
    first, second = _scores("a", a), _scores("b", b)
    _alike(len(first), len(second))
    for name, scores in (("a", first), ("b", second)):
        if not np.isin(scores, (0.0, 1.0)).all():
            raise ArgumentError(f"{name} holds scores other than 0 and 1: McNemar's test compares right with wrong")
    only_a, only_b = int((first > second).sum()), int((second > first).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    if 2 * fewer == n:
        return 1.0
    term = tail = 1
    for k in range(1, fewer + 1):
        term = term * (n - k + 1) // k
        tail += term
    return 2 * tail / (1 << n)


def _scores(name: str, values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    try:
        scores = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} = {values!r:.80}: it must be a list of scores") from None
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ArgumentError(f"{name} = {values!r:.80}: it must be a list of scores, one or more, all finite")
    return scores


def _alike(one: int, other: int) -> None:
    if one != other:
        raise ArgumentError(f"a has {one} scores and b has {other}: they must be of the same rows, in the same order")
