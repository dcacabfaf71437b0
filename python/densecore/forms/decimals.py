r"""Decimal numbers between two bounds as regular expressions.

>>> between(0, 130, 0)
'(?:[0-9]|[1-9][0-9]|1(?:[0-2][0-9]|30))'
>>> between(0, 1, 2)
'(?:1(?:\\.0|\\.00)?|0(?:\\.[0-9]{1,2})?)'
"""

from __future__ import annotations

import math
from fractions import Fraction


def between(
    least: Fraction | float, most: Fraction | float, places: int, *, above: bool = False, below: bool = False
) -> str:
    """Numbers from ``least`` to ``most`` with up to so many places behind the point; empty if there are none.

    Args:
        least: The lower bound.
        most: The upper bound.
        places: Digits behind the point at most.
        above: Leave the lower bound itself out.
        below: Leave the upper bound itself out.
    """
    first, last = units(least, most, places, above=above, below=below)
    found = _natural(max(0, first), last, places)
    if negative := _natural(max(1, -last), -first, places):  # zero has no sign
        found.append(f"-{_either(negative)}")
    return _either(found) if found else ""


def units(
    least: Fraction | float, most: Fraction | float, places: int, *, above: bool = False, below: bool = False
) -> tuple[int, int]:
    """The first and the last of those numbers, in units of the last place; the first is the greater if there are none.

    >>> units(0.5, 2, 1, below=True)
    (5, 19)
    """
    # All such numbers are whole numbers of tenths, hundredths and so on, so an open bound is a closed one beside it.
    low, high = _exact(least) * 10**places, _exact(most) * 10**places
    return math.floor(low) + 1 if above else math.ceil(low), math.ceil(high) - 1 if below else math.floor(high)


def _exact(bound: Fraction | float) -> Fraction:
    """The number as it is written: a tenth is a tenth."""
    return bound if isinstance(bound, Fraction) else Fraction(repr(bound))


def _natural(first: int, last: int, places: int) -> list[str]:
    """Numbers without sign, from so many units of the last place on."""
    if first > last:
        return []
    unit = 10**places
    (start, low), (end, high) = divmod(first, unit), divmod(last, unit)
    if start == end:
        return [_within(start, low, high, places)]
    found = []
    if low:
        found.append(_within(start, low, unit - 1, places))
        start += 1
    if high < unit - 1:
        found.append(_within(end, 0, high, places))
        end -= 1
    if start <= end:
        found.append(_whole(start, end) + (rf"(?:\.[0-9]{{1,{places}}})?" if places else ""))
    return found


def _whole(start: int, end: int) -> str:
    options = []
    while start <= end:
        top = min(end, 10 ** len(str(start)) - 1)
        options.append(_digits(str(start), str(top)))
        start = top + 1
    return _either(options)


def _within(whole: int, low: int, high: int, places: int) -> str:
    """Numbers of one whole part, whose fraction is from so many units of the last place to so many."""
    options = []
    for k in range(1, places + 1):
        unit = 10 ** (places - k)
        start, end = -(-low // unit), high // unit
        if start <= end:
            options.append(rf"\.{_digits(f'{start:0{k}}', f'{end:0{k}}')}")
    return f"{whole}(?:{'|'.join(options)}){'' if low else '?'}" if options else str(whole)


def _digits(low: str, high: str) -> str:
    """Digits from ``low`` to ``high``, of one length."""
    length = len(low)
    if not length:
        return ""
    if low == "0" * length and high == "9" * length:
        return "[0-9]" if length == 1 else f"[0-9]{{{length}}}"
    if low[0] == high[0]:
        return low[0] + _digits(low[1:], high[1:])
    first, last, options = int(low[0]), int(high[0]), []
    if low[1:].strip("0"):
        options.append(low[0] + _digits(low[1:], "9" * (length - 1)))
        first += 1
    whole = last - 1 if high[1:].strip("9") else last
    if first <= whole:
        head = str(first) if first == whole else f"[{first}-{whole}]"
        options.append(head + _digits("0" * (length - 1), "9" * (length - 1)))
    if whole < last:
        options.append(high[0] + _digits("0" * (length - 1), high[1:]))
    return _either(options)


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"
