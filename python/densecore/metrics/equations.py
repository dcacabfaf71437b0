"""The equations written in a solution, and whether they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from densecore.metrics.figures import unwrapped

# Tokens of a side, characters of a figure. More is noise of a model, and exact arithmetic over it would take seconds.
_LONGEST, _DIGITS = 40, 30
_TOKEN = re.compile(
    r"""
    (?P<clock>\d+(?::\d+)+)
    | (?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)
    | (?P<relation>[<>!≤≥≠≈]=?|=[<>])
    | (?P<equal>==?)
    | (?P<power>\*\*|\^)
    | (?P<by>[xX](?=\s*[\d(.$]))
    | (?P<word>[^\W\d_]\w*(?:['’-][^\W\d]\w*)*)
    | (?P<operator>[-+*/×·÷\u2212\u2013])
    | (?P<open>\() | (?P<close>\)) | (?P<percent>%)
    | (?P<nothing>[\s$£€¥₹]+)
    | (?P<mark>.)
    """,
    re.VERBOSE,
)
_BULLET = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.)])\s+")
_MINUS = "-\u2212\u2013"
# After a number, an equation may go on with an operator; a word that stands there is its unit.
_ENDS = ("number", "close", "percent", "unit")
_PARTS = (*_ENDS, "open", "operator")
_QUIET = set(":;,.?\"'#|_>—…“”‘’&`•~*")
# Words that compute: the figures after them are half of a formula.
_SPOKEN = {"plus", "minus", "times", "by", "half", "twice", "double", "triple", "third", "quarter", "fifth", "tenth"}
# Units that compute: the figure before them is not the number that is meant.
_SCALES = {"dozen", "hundred", "thousand", "million", "billion", "percent", "pair", "score"} | _SPOKEN
# Between two units of one kind: hours of a day, inches of a foot, cents of a dollar.
_FACTORS = {Fraction(n) for n in (3, 7, 10, 12, 16, 24, 30, 36, 52, 60, 100, 144, 365, 1000, 1440, 3600, 5280)}


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation as it was written, and whether its two sides are equal."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def equations(text: str) -> list[Equation]:
    """The equations ``a op b = c`` of a text whose sides can be computed, with the signs + - * / x × ÷ and brackets.

    What a reader would have to think about is left out rather than guessed at: letters for unknowns, powers, functions,
    mixed numbers, sums of different units (``1 hour + 30 minutes``). A decimal result counts as equal within one unit
    of its last place, so that both rounding and cutting off pass; a whole result must be exact. A percentage may be
    meant as a share or as a figure.

    >>> [(found.text, found.holds) for found in equations("So 3 x 4 = 12 pens, and 12 - 5 = $8.")]
    [('3 x 4 = 12', True), ('12 - 5 = $8', False)]
    """
    return [found for line in unwrapped(text, "({0}/{1})").split("\n") if "=" in line for found in _of_line(line)]


def _of_line(line: str) -> list[Equation]:
    line = _BULLET.sub("", line)
    tokens = _tokens(line)
    made = []
    for at, token in enumerate(tokens):
        if token.kind == "equal":
            left, right = _left(tokens, at), _right(tokens, at)
            holds = _holds(left, right) if left and right else None
            if holds is not None:
                last = next(token for token in reversed(right) if token.kind != "unit")
                made.append(Equation(line[left[0].start : last.end], holds))
    return made


def _tokens(line: str) -> list[_Token]:
    """The line's tokens: ``x`` told from a letter, ``of`` after a percentage from a word, a unit from another word."""
    tokens: list[_Token] = []
    for found in _TOKEN.finditer(line):
        kind, text = str(found.lastgroup), found[0]
        ends = bool(tokens) and tokens[-1].kind in _ENDS
        ahead = line[found.end() :].lstrip(" $")[:1]
        if kind == "nothing":
            continue
        if kind == "by":
            kind = "operator" if ends else "word"
        elif kind == "power" and text == "**" and not (ends and (ahead.isdigit() or ahead == "(")):
            kind, text = "mark", "*"  # bold type
        elif kind == "word" and ends and text.lower() == "of" and tokens[-1].kind == "percent" and ahead.isdigit():
            kind, text = "operator", "*"
        elif ends and ((kind == "word" and len(text) > 1) or (text == "/" and ahead.isalpha())):
            kind = "unit"  # "km/h" included
        tokens.append(_Token(kind, text, found.start(), found.end()))
    return tokens


def _left(tokens: list[_Token], at: int) -> list[_Token]:
    """The longest formula that ends before the sign at ``at``; none if it is only the end of a longer one."""
    begin = at
    while begin and tokens[begin - 1].kind in _PARTS and at - begin <= _LONGEST:
        begin -= 1
    if at - begin > _LONGEST:
        return []
    while begin < at and (tokens[begin].kind == "unit" or _value(tokens[begin:at]) is None):
        begin += 1
    side = tokens[begin:at]
    return side if side and _opens(tokens[:begin], side[0]) else []


def _opens(before: list[_Token], first: _Token) -> bool:
    """Whether a formula may begin with ``first`` after what stands before it."""
    if not before:
        return True
    last = before[-1]
    if last.kind in ("word", "unit"):
        spoken = {token.text.lower().rstrip("s") for token in before[-2:]} & _SPOKEN
        share = last.text.lower() == "of" and before[-2:][0].kind in ("number", "percent", "close")
        variable = first.kind == "operator" and len(last.text) == 1
        return last.end < first.start and not (variable or spoken or share)
    return last.kind in ("equal", "relation", "open") or (last.kind == "mark" and last.text in _QUIET)


def _right(tokens: list[_Token], at: int) -> list[_Token]:
    """The longest formula after the sign at ``at``, with the unit that follows it; none if it goes on beyond."""
    end = at + 1
    while end < len(tokens) and tokens[end].kind in _PARTS and end - at <= _LONGEST:
        end += 1
    while end > at + 1 and (tokens[end - 1].kind == "operator" or _value(tokens[at + 1 : end]) is None):
        end -= 1
    side = tokens[at + 1 : end]
    if side and end < len(tokens):
        beyond, close = tokens[end], tokens[end].start == side[-1].end
        unknown = beyond.kind == "word" and (close or beyond.text in "xX")
        mixed = beyond.kind == "number" and side[-1].kind == "number"
        if unknown or mixed or beyond.kind == "power" or (close and beyond.kind == "open"):  # 8x, 1 1/2, 10^3, 8(2)
            return []
    return side


def _holds(left: list[_Token], right: list[_Token]) -> bool | None:
    """Whether two sides are equal; None where nothing is computed or that is not to be told."""
    if not any(token.kind == "operator" for token in left[1:]):
        return None
    units = _units(left)
    adds = any(token.text in f"+{_MINUS}" for token in left if token.kind == "operator")
    others = _units(right)
    if {unit[0] for unit in units | others} & _SCALES or (adds and len(units) > 1):
        return None
    # In "3 + 4 = 7 + 2 = 9" the first number of the right side is what the left one comes to.
    claims = [right, _first(right)]
    computed = [value for shares in (True, False) if (value := _value(left, shares)) is not None]
    claimed = [
        (value, _step(claim))
        for claim in claims
        for shares in (True, False)
        if (value := _value(claim, shares)) is not None
    ]
    if any(value == claim or abs(value - claim) < step for value in computed for claim, step in claimed):
        return True
    if len([token for token in left if token.text in "/÷"]) > 1:
        return None  # 25 / 1/3 is read in two ways
    ratios = {max(value / claim, claim / value) for value in computed for claim, _ in claimed if value and claim}
    # "3 * 20 cents = $0.60": the unit changed on the way, and the figures are in order.
    ours, theirs = ({word for unit in side for word in unit} for side in (units, others))
    return None if ours and ours.isdisjoint(theirs) and ratios & _FACTORS else False


def _units(side: list[_Token]) -> set[tuple[str, ...]]:
    """The units of a side, each as its words."""
    found: list[tuple[str, ...]] = [()]
    for token in side:
        if token.kind == "unit" and token.text != "/":
            found[-1] += (token.text.lower().rstrip("s"),)
        elif token.kind != "unit" and found[-1]:
            found.append(())
    return {unit for unit in found if unit}


def _first(side: list[_Token]) -> list[_Token]:
    """The first number of a side, with its sign."""
    end = 2 if side[0].kind == "operator" else 1
    return side[: end + (len(side) > end and side[end].kind == "percent")]


def _step(side: list[_Token]) -> Fraction:
    """One unit of the last place of a decimal; nothing for a whole number or a formula."""
    numbers = [token.text for token in side if token.kind == "number"]
    places = len(numbers[0].partition(".")[2]) if len(numbers) == 1 else 0
    return Fraction(1, 10**places) if places else Fraction(0)


def _value(side: list[_Token], shares: bool = True) -> Fraction | None:
    """What a formula comes to, percentages taken as shares or as figures; None where it is none or divides by zero."""
    tokens = [token for token in side if token.kind != "unit"]
    if any(token.kind == "number" and len(token.text) > _DIGITS for token in tokens):
        return None
    try:
        value, end = _sum(tokens, 0, shares)
    except (IndexError, ValueError, ZeroDivisionError):
        return None
    return value if end == len(tokens) else None


def _sum(tokens: list[_Token], at: int, shares: bool) -> tuple[Fraction, int]:
    value, at = _product(tokens, at, shares)
    while at < len(tokens) and tokens[at].kind == "operator" and tokens[at].text in f"+{_MINUS}":
        term, end = _product(tokens, at + 1, shares)
        value, at = (value + term if tokens[at].text == "+" else value - term), end
    return value, at


def _product(tokens: list[_Token], at: int, shares: bool) -> tuple[Fraction, int]:
    value, at = _factor(tokens, at, shares)
    while at < len(tokens) and tokens[at].kind == "operator" and tokens[at].text not in f"+{_MINUS}":
        factor, end = _factor(tokens, at + 1, shares)
        value, at = (value / factor if tokens[at].text in "/÷" else value * factor), end
    return value, at


def _factor(tokens: list[_Token], at: int, shares: bool) -> tuple[Fraction, int]:
    token = tokens[at]
    if token.kind == "operator" and token.text in _MINUS:
        value, at = _factor(tokens, at + 1, shares)
        return -value, at
    if token.kind == "number":
        value, at = Fraction(token.text.replace(",", "")), at + 1
    elif token.kind == "open":
        value, at = _sum(tokens, at + 1, shares)
        if tokens[at].kind != "close":
            raise ValueError
        at += 1
    else:
        raise ValueError
    if at < len(tokens) and tokens[at].kind == "percent":
        return (value / 100 if shares else value), at + 1
    return value, at
