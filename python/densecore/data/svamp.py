"""SVAMP: 1,000 word problems of one or two steps, each with its equation.

``all`` is every row. ``select`` is a fixed three tenths, on which prompts and settings may be chosen, and ``rest`` the
others, which may then be reported. Row ``chal-680`` is wrong at its source, its equation gives 5 and its answer says 1,
and is kept as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .record import Record
from .rows import Row
from .splits import Hub, Split, everything, held, rest

NAME = "svamp"


def _order(fields: Mapping[str, Any]) -> int:
    found = re.search(r"\d+", str(fields.get("ID", "")))
    return int(found[0]) if found else 0


_FILES = ("math/svamp.jsonl", "svamp/svamp.jsonl", "svamp/all.jsonl")
# The hub's copy is parted in two; by number, the rows stand as in the original file, and the splits are the same.
_HUB = Hub("ChilleD/SVAMP", None, ("train", "test"), _order)
SPLITS = {
    "all": Split(_FILES, _HUB, everything),
    "select": Split(_FILES, _HUB, held(3)),
    "rest": Split(_FILES, _HUB, rest(3)),
}


def row(record: Record, split: str) -> Row:
    """A row, in lower-case fields or in the capitals of the original (``Body``, ``Question``); solution: the equation."""
    capitals = "Body" in record.fields
    answer, equation, key = ("Answer", "Equation", "ID") if capitals else ("answer", "equation", "id")
    return Row(
        id=record.key(key),
        question=joined(record.text("Body"), record.text("Question")) if capitals else record.text("question"),
        answers=(record.figure(answer, record.value(answer)),),
        solution=record.text(equation),
        set=NAME,
        split=split,
    )


def joined(body: str, question: str) -> str:
    """Body and question as one text: a full stop between them where the body has no other mark.

    >>> joined("Ann has 3 apples", "How many are left?")
    'Ann has 3 apples. How many are left?'
    """
    body = body.strip()
    ends = body if body.endswith((",", ";", ":", "?", "!")) else body.rstrip(" .") + "."
    return f"{ends} {question.strip()}"
