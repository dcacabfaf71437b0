"""The number an answer gives: in a short answer, or at the end of a written solution."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from numbers import Integral, Real

# Longer runs of digits, and powers beyond, are noise of a model and would cost seconds to compute with.
_LONGEST = 60

_MINUS = "-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_SYMBOL = "$¢£¥฿₩₪₫€₱₹₺₽"
_CODE = r"(?:USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SGD|US|Rs\.?)"
_PLAIN = (
    r"(?:(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d\d){1,4},\d{3}|\d{1,3}(?:[\u00a0\u2009\u202f]\d{3})+|\d+(?:_\d{3})*)"
    r"(?:\.\d+)?|(?<![\w.])\.\d+)"
)
_NUMBER = re.compile(
    rf"""
    (?P<other>\d+(?:\.\d+){{2,}} | \d+(?:/\d+){{2,}} | \d{{4}}-\d\d-\d\d)                    # a version, a date
    | (?:(?P<mixed>\d{{1,9}})(?:[ \t]+(?:and[ \t]+)?|-)(?=\d{{1,9}}[ \t]?/[ \t]?\d))?
      (?P<top>{_PLAIN})
      (?: [ \t]?/[ \t]?(?P<bottom>{_PLAIN})
        | [eE](?P<exponent>[-+]?\d+)
        | (?:[ \t]?[×xX*·][ \t]?10\^\{{?(?P<ten>[-+\u2212]?\d+)\}}?)
        | \^\{{?(?P<power>\d+)\}}?
      )?
    """,
    re.VERBOSE,
)
_SIGN = re.compile(
    rf"(?:(?:{_CODE}[ ]?)?[{_SYMBOL}][ ]?)?(?P<sign>[{_MINUS}]|\b(?:minus|negative)[ ])"
    rf"(?P<gap>[ \t]*)(?:(?:{_CODE}[ ]?)?[{_SYMBOL}]?[ ]?\(?)?$",
    re.IGNORECASE,
)
_CODED = re.compile(rf"(?:^|[^A-Za-z]){_CODE}$")
_SCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")

_MARK = re.compile(r"#{4,}[ \t]*(?=(?P<rest>[^\n]{0,200}))")
_IS = re.compile(
    r"\banswers?\b[^.\n:]{0,60}?\b(?:is|be|are|equals)\b[\s:*_=]*(?=(?P<rest>[^\n]{0,200}))", re.IGNORECASE
)
_COLON = re.compile(r"\banswers?[*_ \t]*[:=][\s*_]*(?=(?P<rest>[^\n]{0,200}))", re.IGNORECASE)
_BETWEEN = re.compile(rf"[^=\n]{{0,40}}(?:[-+*/×÷·=\u2212]|(?<![A-Za-z])[xX])[ \t*{_SYMBOL}(]*")


@dataclass(frozen=True, slots=True)
class _Found:
    value: Fraction
    start: int
    end: int


def number(value: object) -> Fraction | None:
    """The number an answer gives, exactly; None if it gives none.

    Of a text the first of these that holds a number counts:

    1. what follows the last ``####`` directly,
    2. what the last ``\\boxed{}`` holds,
    3. what follows the last "answer is" in its line, or "answer:" directly,
    4. the last number.

    In 1 to 3 the first number counts, or of an equation that begins with it, ``3 + 4 = 7``, the last side.

    Commas (also Indian ones), narrow spaces and underscores part thousands; a point parts decimals; ``1/2``, ``2 1/2``,
    ``½``, ``\\frac{1}{2}``, ``1.5e3`` and ``1.5 × 10^3`` are read. Currencies, ``%``, units and words such as "million"
    are units and change nothing: ``50%`` is 50. A minus of any form, or the word, is a sign where it does not stand
    between two things: ``5-3``, ``5 - 3``, ``COVID-19`` and the dash of a list hold none. ``(5)`` is 5. Figures inside
    words (``H2O``), exponents, dates and versions are no numbers; a comma in any other place parts two numbers.

    >>> number("$1,234.50"), number("\\u22123.0 degrees"), number("2 1/2 cups")
    (Fraction(2469, 2), Fraction(-3, 1), Fraction(5, 2))
    >>> number("3 * 6 = 18 eggs.\\n#### 18"), number("The answer is $7, for 5 days."), number("none")
    (Fraction(18, 1), Fraction(7, 1), None)
    """
    if isinstance(value, str):
        return _of_text(unwrapped(value))
    if isinstance(value, bool):
        return None
    if isinstance(value, Fraction):
        return value
    if isinstance(value, Decimal):
        return Fraction(value) if value.is_finite() and abs(value.adjusted()) < 400 else None
    if isinstance(value, Integral):
        return Fraction(int(value))
    if isinstance(value, Real):
        return Fraction(repr(float(value))) if abs(float(value)) < float("inf") else None
    return None


def unwrapped(text: str, fraction: str = "{0}/{1}") -> str:
    """A text without the dress of LaTeX and of fractions in one character; ``fraction`` says how to write one."""
    if "\\" in text:
        text = re.sub(r"\\(?:left|right|!|displaystyle)", "", text).replace("{,}", ",").replace("\\,", "\u2009")
        text = re.sub(r"\\([$%#&_{}])", r"\1", text).replace("^{\\circ}", "°").replace("^\\circ", "°")
        text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r" \1 ", text)
        text = re.sub(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))", _fraction(fraction), text)
        for name, sign in (("times", "×"), ("cdot", "·"), ("div", "÷"), ("approx", "≈"), ("neq", "≠")):
            text = re.sub(rf"\\{name}(?![A-Za-z])", sign, text)
        text = re.sub(r"\\[()\[\];: ]", " ", text)
    if not text.isascii():
        text = re.sub("[¼-¾⅐-⅞↉]", lambda found: _spaced(found, fraction, *_vulgar(found[0])), text)
        text = re.sub("(?<=10)[⁻⁺]?[⁰¹²³⁴-⁹]+", lambda found: "^" + found[0].translate(_SCRIPT), text)
        text = text.replace("\u2044", "/").replace("\u2215", "/")
    return text


def _fraction(form: str) -> Callable[[re.Match[str]], str]:
    return lambda found: _spaced(
        found, form, (found[1] or found[2] or "").strip(), (found[3] or found[4] or "").strip()
    )


def _spaced(found: re.Match[str], form: str, top: str, bottom: str) -> str:
    """The fraction, parted from a digit before it."""
    before = found.string[found.start() - 1 : found.start()]
    return (" " if before.isdigit() else "") + form.format(top, bottom)


def _vulgar(letter: str) -> tuple[str, str]:
    top, _, bottom = unicodedata.normalize("NFKC", letter).partition("\u2044")
    return top, bottom


def _of_text(text: str) -> Fraction | None:
    for stretch in (*_marked(text), *_boxed(text), *_said(text)):
        value = _concluded(stretch)
        if value is not None:
            return value
    found = _numbers(text)
    return found[-1].value if found else None


def _marked(text: str) -> list[str]:
    """What follows each ``####``, the last first, where that is a number and no heading such as ``#### 1. Costs``."""
    stretches = []
    for mark in reversed(list(_MARK.finditer(text))):
        rest = mark["rest"].replace("\\boxed", "")
        found = _numbers(rest)
        if found and not _worded(rest[: found[0].start]) and not re.match(r"[.:)][ \t]+\w", rest[found[0].end :]):
            stretches.append(rest)
    return stretches


def _boxed(text: str) -> list[str]:
    """What each ``\\boxed{}`` holds, the last first."""
    stretches = []
    for box in reversed(list(re.finditer(r"\\f?boxed\s*\{", text))):
        depth, end = 1, box.end()
        while end < len(text) and depth and text[end] != "\n":
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        stretches.append(text[box.end() : end - (depth == 0)][:200])
        if len(stretches) == 50:  # boxes in boxes would make this quadratic
            break
    return stretches


def _said(text: str) -> list[str]:
    """What follows each "answer is" or "answer:", the last first."""
    places = {}
    for said in _COLON.finditer(text):
        found = _numbers(said["rest"])
        if found and not _worded(said["rest"][: found[0].start]):
            places[said.start("rest")] = said["rest"]
    places |= {said.start("rest"): said["rest"] for said in _IS.finditer(text)}
    return [places[start] for start in sorted(places, reverse=True)]


def _worded(lead: str) -> bool:
    """Whether words stand before a number, signs and currencies aside."""
    return bool(
        re.search(r"[^\W\d_]", re.sub(rf"\b(?:minus|negative)\b|{_CODE}(?=\W|$)", "", lead, flags=re.IGNORECASE))
    )


def _concluded(stretch: str) -> Fraction | None:
    """The first number, or the last side of the equation that it begins."""
    text = stretch.strip()
    found = _numbers(text)
    if not found:
        return None
    value, side = found[0].value, None
    for left, right in pairwise(found):
        between = text[left.end : right.start]
        if not _BETWEEN.fullmatch(between):
            break
        if side is not None and "=" in between:
            value = side
        side = right.value if "=" in between else None  # a side that goes on with an operator is no result
    return value if side is None else side


def _numbers(text: str) -> list[_Found]:
    """Every number of a text."""
    numbers = []
    lines = "\n" in text.strip()
    for found in _NUMBER.finditer(text):
        if found["other"] or len(found[0]) > _LONGEST or _inside(text, found.start()):
            continue
        top, bottom = _value(found["top"]), _value(found["bottom"] or "1")
        scale = found["exponent"] or found["ten"] or "0"
        power = int(found["power"] or "1")
        places = int(scale.replace("\u2212", "-"))
        if not bottom or abs(places) > _LONGEST * 5 or len(found["top"]) * power > _LONGEST * 5:
            continue
        value = (top / bottom * Fraction(10) ** places) ** power
        if found["mixed"] and top < bottom:
            value += int(found["mixed"])
        if _negative(text, found.start(), lines):
            value = -value
        numbers.append(_Found(value, found.start(), found.end()))
    return numbers


def _value(plain: str) -> Fraction:
    return Fraction(re.sub(r"[,_\s]", "", plain))


def _inside(text: str, start: int) -> bool:
    """Whether a number is part of a word, a power or a longer figure."""
    before = text[max(0, start - 1) : start]
    if before == "^":
        return True
    if before == ".":
        return text[max(0, start - 2) : start - 1].isdigit()
    if before in ("x", "X") and text[max(0, start - 2) : start - 1].isdigit():
        return False
    if before == "_":
        return text[max(0, start - 2) : start - 1].isalnum()
    return before.isascii() and before.isalpha() and not _CODED.search(text[max(0, start - 6) : start])


def _negative(text: str, start: int, lines: bool) -> bool:
    """Whether what stands before a number is its sign, rather than an operator, a hyphen or the dash of a list."""
    begin = max(0, start - 24)
    sign = _SIGN.search(text, begin, start)
    if not sign:
        return False
    before = text[begin : sign.start()]
    last = before.rstrip(" \t")[-1:]
    if last.isdigit() or last in (")", "]", "%"):
        return False
    if sign["sign"].strip().isalpha():
        return True
    if sign["gap"]:
        # "x = - 5" has a sign; "total - 5" and a list's "- 5" have a dash.
        return (not lines and not last) or last in tuple("=([{:,;×÷*/+≈<>")
    return not before[-1:].isalpha()
