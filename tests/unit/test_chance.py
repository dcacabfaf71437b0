"""Intervals and comparisons: published values, brute force, and what must hold whatever the scores."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densecore import metrics
from densecore.errors import ArgumentError


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, the score method.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_as_published(correct, n, low, high):
    assert metrics.interval(correct, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 10**6), share=st.floats(0, 1))
def test_wilsons_interval_lies_around_the_share(n, share):
    correct = round(share * n)
    low, high = metrics.interval(correct, n)
    assert 0.0 <= low <= correct / n <= high <= 1.0
    assert low < high
    other_low, other_high = metrics.interval(n - correct, n)
    assert (1 - other_high, 1 - other_low) == pytest.approx((low, high))


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 5), (1.5, 5), (True, 5), (1, "5")])
def test_counts_that_are_none(correct, n):
    with pytest.raises(ArgumentError, match=r"correct|n ="):
        metrics.interval(correct, n)


def test_the_bootstrap_is_that_of_the_normal_approximation_for_many_rows():
    stream = np.random.default_rng(7)
    a, b = stream.random(4000), stream.random(4000)
    found = metrics.paired_bootstrap(a, b, seed=3)
    half = 1.96 * np.std(a - b) / np.sqrt(4000)
    assert found.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert found.low == pytest.approx(found.difference - half, abs=0.05 * half)
    assert found.high == pytest.approx(found.difference + half, abs=0.05 * half)


def test_the_bootstrap_keeps_pairs_together():
    """Scores that vary a lot, and alike: the difference does not vary at all."""
    b = list(range(50))
    assert metrics.paired_bootstrap([score + 0.5 for score in b], b) == (0.5, 0.5, 0.5)
    assert metrics.paired_bootstrap([True, False], [True, False]) == (0.0, 0.0, 0.0)


def test_the_bootstrap_is_seeded():
    a, b = [(7 * number % 10) / 9 + 0.1 for number in range(60)], [(number**2 % 11) / 13 for number in range(60)]
    assert metrics.paired_bootstrap(a, b, seed=1) == metrics.paired_bootstrap(a, b, seed=1)
    assert metrics.paired_bootstrap(a, b, seed=1) != metrics.paired_bootstrap(a, b, seed=2)
    difference, low, high = metrics.paired_bootstrap(a, b, 1, rounds=2000)
    assert low < difference < high


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [([1, 0], [1], "a has 2 scores and b has 1"), ([], [], "one or more"), ([1, float("nan")], [1, 0], "finite"),
     ([[1]], [[0]], "list of scores"), (["x"], [1], "list of scores"), (5, 5, "list of scores")],
)  # fmt: skip
def test_scores_that_cannot_be_compared(a, b, message):
    for compare in (metrics.paired_bootstrap, metrics.mcnemar):
        with pytest.raises(ArgumentError, match=message):
            compare(a, b)


def outcomes(only_a, only_b, both=3, neither=2):
    a = [True] * only_a + [False] * only_b + [True] * both + [False] * neither
    b = [False] * only_a + [True] * only_b + [True] * both + [False] * neither
    return a, b


@settings(max_examples=60)
@given(only_a=st.integers(0, 40), only_b=st.integers(0, 40))
def test_mcnemar_is_the_two_sided_binomial_test(only_a, only_b):
    n = only_a + only_b
    # Outcomes of n throws of a coin that are at least as uneven.
    far = sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(only_a - only_b))
    assert metrics.mcnemar(*outcomes(only_a, only_b)) == float(Fraction(far, 2**n))


def test_mcnemar_of_thousands_of_rows_stays_exact():
    p = metrics.mcnemar(*outcomes(5200, 5000))
    assert p == pytest.approx(0.0487, abs=0.0005)
    assert metrics.mcnemar(*outcomes(3000, 0)) == 0.0


def test_mcnemar_takes_right_and_wrong_only():
    assert metrics.mcnemar([1.0, 0.0], [0, 1]) == 1.0
    with pytest.raises(ArgumentError, match="b holds scores other than 0 and 1"):
        metrics.mcnemar([1, 0], [0.5, 0])
