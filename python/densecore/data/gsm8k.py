"""GSM8K: grade-school word problems with worked solutions whose last line is ``#### n``.

``train`` is 200 rows of the official training split (shuffled by ``random.Random(0)``, the first 200), ``dev`` the
first 500 rows of the official test split, which is what tables report. Neither prompts nor settings are to be chosen
on them: models have seen the training rows, and a set that chose is no result. SVAMP and the generated problems may
choose.
"""

from __future__ import annotations

import re

from .record import Record
from .rows import Row
from .splits import Hub, Split, first, shuffled

NAME = "gsm8k"
_HUB = "openai/gsm8k"
SPLITS = {
    "train": Split(("gsm8k/train.jsonl",), Hub(_HUB, "main", ("train",)), shuffled(200)),
    "dev": Split(
        ("gsm8k/dev500.jsonl", "gsm8k/test.jsonl", "gsm8k/dev.jsonl"), Hub(_HUB, "main", ("test",)), first(500)
    ),
}
_OFFICIAL = {"train": "train", "dev": "test"}


def row(record: Record, split: str) -> Row:
    """A row. The answer is the number after the last ``####``, without commas; the solution is kept as it is."""
    solution = record.text("answer")
    _, mark, gold = solution.rpartition("####")
    if not mark:
        raise record.error("field 'answer' has no line '#### n' with the number that is right")
    return Row(
        id=f"{NAME}-{_OFFICIAL[split]}-{record.index}",
        question=record.text("question"),
        answers=(record.figure("answer", gold),),
        solution=solution,
        set=NAME,
        split=split,
    )


def plain(solution: str) -> str:
    """A solution without the calculator's notes ``<<...>>``.

    >>> plain("She sold 48/2 = <<48/2=24>>24 clips.\\n#### 24")
    'She sold 48/2 = 24 clips.\\n#### 24'
    """
    return re.sub(r"<<[^<>]*>>", "", solution)
