"""Texts of a known format as regular expressions: all that is written so, DSPy and pydantic read.

>>> import re
>>> [bool(re.fullmatch(DATE, text)) for text in ("2024-02-29", "2023-02-29", "2023-04-31")]
[True, False, False]
"""

from __future__ import annotations

# Python's calendar: years 1 to 9999, the 29th of February in leap years.
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_HEX = "[0-9a-f]"
_WORD = "[a-z0-9]{1,20}"

# Written as they stand where a whole field is one, without quotes, as DSPy shows them.
PLAIN_FORMATS = {"date": DATE, "date-time": f"{DATE}T{TIME}Z?", "time": TIME}
AWARE, NAIVE = "date-time-aware", "date-time-naive"  # pydantic tells them apart, JSON schemas do not
STRIPPED = "x-stripped"  # the keyword of a text whose blanks at both ends do not count, so that it should have none
FORMATS = {
    **PLAIN_FORMATS,
    AWARE: f"{DATE}T{TIME}Z",
    NAIVE: f"{DATE}T{TIME}",
    "duration": "P[0-9]{1,3}DT[0-9]{1,2}H[0-9]{1,2}M[0-9]{1,2}S",
    "uuid": f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",
    **{f"uuid{n}": f"{_HEX}{{8}}-{_HEX}{{4}}-{n}{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}" for n in (1, 3, 4, 5, 7)},
    "email": rf"{_WORD}(?:[._]{_WORD})?@{_WORD}\.(?:com|org|net)",
    "uri": rf"https?://{_WORD}(?:\.{_WORD})?\.(?:com|org|net)(?:/[A-Za-z0-9_.-]{{1,40}}){{0,4}}",
    "ipv4": r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
}
ANY_STRING = ("path", "binary", "password")  # formats that say what a string is for, not what it looks like
