"""The calculator is exact, bounded, and refuses in words."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

pytest.importorskip("dspy", reason="the extra `dspy`")

from densecore.errors import ArgumentError  # noqa: E402
from densecore.programs.calculator import LONGEST, WIDEST, calculate, show  # noqa: E402


def drawn(stream: random.Random, depth: int) -> tuple[str, Fraction]:
    """A random expression and its value, computed on the way."""
    if depth == 0:
        digits = (
            f"{stream.randrange(1000)}.{stream.randrange(100):02}"
            if stream.random() < 0.5
            else f"{stream.randrange(1000)}"
        )
        return digits, Fraction(digits)
    (left, a), (right, b) = (drawn(stream, stream.randrange(depth)) for _ in "ab")
    sign = stream.choice("+-*/" if b else "+-*")
    value = a / b if sign == "/" else {"+": a + b, "-": a - b, "*": a * b}[sign]
    return f"({left} {sign} {right})", value


@pytest.mark.parametrize("seed", range(100, 110))
def test_random_expressions_are_exact(seed: int) -> None:
    stream = random.Random(seed)
    for _ in range(40):
        text, value = drawn(stream, 4)
        assert calculate(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("0.1 + 0.2", "0.3"),
        (".5 + 1.", "1.5"),
        ("-7 // 2", "-4"),
        ("17 % 5", "2"),
        ("2 ** -2", "0.25"),
        ("2 ^ 10", "1024"),
        ("-2 ** 2", "-4"),
        ("1e3 / 8", "125"),
        ("$1,234,567.50 + 1", "1234568.5"),
        ("20% of 50", "10"),
        ("50 * 20%", "10"),
        ("3 x 4 × 5 ÷ 6 − 1 =", "9"),
        ("[1 + 2] * 3", "9"),
        ("123456789123456789 * 1000000007", "123456789987654312864197523"),
        ("0.12345678901234567890123 * 1", "0.123456789012"),
        ("1 / 3", "0.333333333333"),
        ("-200 / 3", "-66.666666666667"),
        ("1 / 7000000", "0.000000142857142857"),
        ("2 / 3 - 2 / 3", "0"),
    ],
)
def test_what_models_write(text: str, value: str) -> None:
    assert show(calculate(text)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it must be arithmetic"),
        ("  ", "it must be arithmetic"),
        (None, "it must be arithmetic"),
        ("1 +", "no arithmetic"),
        ("two + 2", "no arithmetic"),
        ("__import__('os').getcwd()", "no arithmetic"),
        ("e", "no arithmetic"),
        ("3(4)", "no arithmetic"),
        ("()", "no arithmetic"),
        ("1if 2 else 3", "no arithmetic"),
        ("1 < 2", "no arithmetic"),
        ("007", "no arithmetic"),
        ("1e999999999", "no number"),
        ("1" * (LONGEST + 1), "longer than"),
        ("1 / (2 - 2)", "divides by zero"),
        ("1 // 0", "divides by zero"),
        ("1 % (3 - 3)", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("2 ** 0.5", "not whole"),
        ("9 ** 9 ** 9", "too large"),
        ("2 ** (0 - 10 ** 99)", "too large"),
        (f"2 ** {WIDEST}", "more digits"),
        (f"1 / 2 ** {WIDEST - 1} / 2", "more digits"),
        ("1e99 * 1e99", "more digits"),
        ("(" * 100 + "1" + ")" * 99, "no arithmetic"),
    ],
)
def test_refusals_say_why(text: str, why: str, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ArgumentError, match=why) as caught:
        calculate(text)
    assert len(str(caught.value)) < 250
    assert not recwarn.list


def test_the_largest_that_is_computed() -> None:
    """What the bounds let in is exact."""
    assert calculate(f"2 ** {WIDEST - 1}") == 2 ** (WIDEST - 1)
    assert calculate("(0 - 1) ** (10 ** 99 + 1)") == -1
    assert calculate("-" * (LONGEST - 1) + "1") == -1
    assert calculate("(" * 99 + "1" + ")" * 99) == 1


def test_garbage_is_refused_and_never_runs_on() -> None:
    """Whatever the characters, the answer is a number or the one error."""
    stream = random.Random()
    for _ in range(3000):
        text = "".join(stream.choices("0123456789.eE+-*/%(),x$ ^=", k=stream.randrange(1, 24)))
        try:
            assert isinstance(calculate(text), Fraction), text
        except ArgumentError:
            pass
