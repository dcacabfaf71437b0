"""A split: which files or hub rows it is made of, and which of their rows belong to it.

Choices are fixed, not seeded by the caller: a split is the same rows for everybody, from files and from the hub.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Pick = Callable[[int], list[int]]
"""From the number of rows of the source to the positions of those that belong to the split, in their order."""


@dataclass(frozen=True, slots=True)
class Hub:
    """Where the Hugging Face hub has the rows: repository, configuration, and the parts to put one after another.

    ``order`` gives the key by which the parts together are sorted, where they are to stand as in the original file.
    """

    repository: str
    configuration: str | None
    parts: tuple[str, ...]
    order: Callable[[Mapping[str, Any]], Any] | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Files below the data folder, of which the first that exists is read; the hub's rows; and the choice among them."""

    files: tuple[str, ...]
    hub: Hub
    pick: Pick


def everything(count: int) -> list[int]:
    """All rows, as they stand.

    >>> everything(3)
    [0, 1, 2]
    """
    return list(range(count))


def first(most: int) -> Pick:
    """The first ``most`` rows, as they stand."""
    return lambda count: list(range(min(most, count)))


def shuffled(most: int) -> Pick:
    """The first ``most`` rows after ``random.Random(0)`` has shuffled all of them, in that order.

    >>> shuffled(3)(10)
    [7, 8, 1]
    """
    return lambda count: _mixed(count)[:most]


def held(tenths: int) -> Pick:
    """So many tenths of the rows, chosen by ``random.Random(0)``, in the order of the file.

    >>> held(3)(10), rest(3)(10)
    ([1, 7, 8], [0, 2, 3, 4, 5, 6, 9])
    """
    return lambda count: sorted(_mixed(count)[: count * tenths // 10])


def rest(tenths: int) -> Pick:
    """The rows that :func:`held` of the same number leaves, in the order of the file."""
    return lambda count: sorted(_mixed(count)[count * tenths // 10 :])


def _mixed(count: int) -> list[int]:
    positions = list(range(count))
    random.Random(0).shuffle(positions)  # noqa: S311  (nothing secret: the same choice everywhere is the point)
    return positions
