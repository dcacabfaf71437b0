"""Generated arithmetic word problems: as many as wanted, with worked solutions, and without any download.

A problem is a function of split, number and seed. No two splits share one, whatever their seeds and sizes: which split
a problem belongs to is decided by a hash of its story and its figures, names and things left aside. In what
:func:`rows` gives no question comes twice.

>>> from densecore.data import problems
>>> row = problems.problem("dev", 6)
>>> print(row.question)
Chen buys 18 coins at $1.50 each and pays with $50. How many dollars does Chen get back?
>>> print(row.solution)
The coins cost 18 * 1.5 = 27 dollars.
Chen gets 50 - 27 = 23 dollars back.
#### 23
"""

from __future__ import annotations

import hashlib
import random
import re

from .rows import Row
from .stories import STORIES, Draw, Story

NAME = "problems"
SPLITS = ("train", "select", "dev", "test")
SIZE = 500
"""How many problems a split has when nobody says."""


def problem(split: str, index: int, seed: int = 0) -> Row:
    """One problem: the same for the same arguments, on every machine."""
    # Seeded by a text, as its hash: numbers close to one another give streams that have nothing in common.
    stream = random.Random(f"densecore problems {seed} {split} {index}")  # noqa: S311
    while True:
        story = stream.choice(STORIES)
        told = story(Draw(stream))
        if _home(story.__name__, told) == split:
            return Row(
                id=f"{NAME}-{split}-{seed}-{index}",
                question=told.question,
                answers=(told.answer,),
                solution="\n".join((*told.steps, f"#### {told.answer}")),
                set=NAME,
                split=split,
            )


def rows(split: str, count: int, seed: int = 0) -> list[Row]:
    """The first ``count`` problems of a split; more of them begin with the same ones."""
    found: list[Row] = []
    asked: set[str] = set()
    index = 0
    while len(found) < count:
        row = problem(split, index, seed)
        if row.question not in asked:
            asked.add(row.question)
            found.append(row)
        index += 1
    return found


def _home(name: str, told: Story) -> str:
    """The split a problem belongs to: a quarter of all stories with all figures each."""
    figures = " ".join(re.findall(r"-?\d+(?:\.\d+)?", told.question))
    return SPLITS[hashlib.sha256(f"{name} {figures}".encode()).digest()[0] % len(SPLITS)]
