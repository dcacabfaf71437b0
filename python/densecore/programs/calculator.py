"""A calculator for models: exact, bounded, and it says what is wrong with an expression.

Nothing is evaluated but a tree of numbers and operations. Values are fractions, so 0.1 + 0.2 is 0.3, and no text makes it
work for long: expressions, exponents and values have bounds.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

from densecore.errors import ArgumentError

LONGEST = 200
"""Characters of an expression; no word problem needs more, and it bounds the depth of its tree."""
WIDEST = 512
"""Bits of a numerator or denominator, some 150 digits: every step stays cheap."""
PLACES = 12
"""Digits shown after the point, or after the zeros there, of a value whose decimals do not end soon."""

# What models and people write, in the spelling of the parser.
_SPELLINGS = str.maketrans(
    {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "[": "(", "]": ")", "$": None, "€": None}
)
_TIMES = re.compile(r"(?<=[\d)%])\s*(?:[xX]|of)\s*(?=[\d(.])")
_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PERCENT = re.compile(r"(\d+\.?\d*|\.\d+)\s*%(?!\s*[\d.(])")
_ALPHABET = re.compile(r"[0-9eE.+\-*/%() ]+")
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?")
_BINARY: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_KNOWN = "use numbers, + - * / // % ** and parentheses"


def calculate(expression: str) -> Fraction:
    """The exact value of an arithmetic expression.

    Raises:
        ArgumentError: What cannot be computed, and why.

    >>> calculate("(0.1 + 0.2) * 10")
    Fraction(3, 1)
    >>> calculate("$1,200 × 15% =")
    Fraction(180, 1)
    """
    if not isinstance(expression, str) or not expression.strip():
        raise ArgumentError(f"expression = {expression!r:.80}: it must be arithmetic, such as (12 + 3) * 4")
    if len(expression) > LONGEST:
        raise ArgumentError(
            f"expression = {expression!r:.40}...: longer than {LONGEST} characters; compute it in parts"
        )
    text = _SEPARATOR.sub("", expression.translate(_SPELLINGS)).strip().removesuffix("=").strip()
    text = _PERCENT.sub(r"(\1/100)", _TIMES.sub(" * ", text))
    try:
        if not _ALPHABET.fullmatch(text):
            raise SyntaxError
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ArgumentError(f"expression = {expression!r:.80}: this is no arithmetic; {_KNOWN}") from None
    return _value(tree.body, text)


def show(value: Fraction) -> str:
    """Digits: all of them where the decimals end soon, else rounded to twelve that count after the point.

    >>> show(Fraction(7, 4)), show(Fraction(-12)), show(Fraction(2, 3))
    ('1.75', '-12', '0.666666666667')
    """
    whole = abs(value.numerator) // value.denominator
    with localcontext() as context:
        context.prec = PLACES + (len(str(whole)) if whole else 0)
        digits = format(Decimal(value.numerator) / Decimal(value.denominator), "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _value(node: ast.expr, text: str) -> Fraction:
    if isinstance(node, ast.Constant):
        return _number(node, text)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _value(node.operand, text)
        return -value if isinstance(node.op, ast.USub) else value
    if not isinstance(node, ast.BinOp) or not (type(node.op) in _BINARY or isinstance(node.op, ast.Pow)):
        raise ArgumentError(f"{_part(node, text)!r:.80} is no arithmetic; {_KNOWN}")
    left, right = _value(node.left, text), _value(node.right, text)
    if isinstance(node.op, ast.Pow):
        return _power(left, right)
    if not right and isinstance(node.op, (ast.Div, ast.FloorDiv, ast.Mod)):
        raise ArgumentError(f"{_part(node, text)!r:.80} divides by zero")
    return _bounded(Fraction(_BINARY[type(node.op)](left, right)))


def _number(node: ast.Constant, text: str) -> Fraction:
    """A number from its digits: a float would have rounded them."""
    written = _part(node, text)
    if not _NUMBER.fullmatch(written):
        raise ArgumentError(f"{written!r:.80} is no number; {_KNOWN}")
    return _bounded(Fraction(written))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1:
        raise ArgumentError(f"the exponent {show(exponent)} is not whole; only whole powers are computed")
    if base == 0 and exponent < 0:
        raise ArgumentError("a negative power of zero divides by zero")
    if (bits - 1) * abs(exponent) > WIDEST:
        raise ArgumentError(
            f"a power with the exponent {show(exponent):.20} is too large; compute with smaller numbers"
        )
    return _bounded(Fraction(base**exponent.numerator))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > WIDEST:
        raise ArgumentError("the value has more digits than are computed with; compute with smaller numbers")
    return value


def _part(node: ast.expr, text: str) -> str:
    return ast.get_source_segment(text, node) or text
