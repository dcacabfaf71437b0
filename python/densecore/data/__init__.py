"""Data sets as rows: GSM8K, HotPotQA, SQuAD, SVAMP, and generated problems that need no download.

Rows come from a local folder of JSON Lines files, named by ``folder=`` or ``DENSECORE_DATA``; the word ``hub`` in its
place takes them from the Hugging Face hub, through the package ``datasets``. Splits are fixed for each source. A folder
may hold other rows than the hub, a part of HotPotQA say, so a run compares with runs of the same source; a journal refuses
to go on with other rows.

========  ======================================  ==================================================
set       splits                                  for
========  ======================================  ==================================================
gsm8k     ``train`` (200), ``dev`` (500)          fitting; reporting
hotpotqa  ``train``, ``select``, ``dev``          fitting; choosing; reporting
squad     ``train``, ``dev``                      fitting; reporting
svamp     ``select``, ``rest``, ``all``           choosing; reporting; both
problems  ``train``, ``select``, ``dev``,         any of it, in any number: see
          ``test``                                :mod:`densecore.data.problems`
========  ======================================  ==================================================

>>> from densecore import data
>>> rows = data.load("problems", "dev", limit=3)
>>> [row.id for row in rows]
['problems-dev-0-0', 'problems-dev-0-1', 'problems-dev-0-2']
>>> rows[0].solution.endswith("#### " + rows[0].answer)
True

A seeded sample of a split, rather than its first rows, is :func:`sample` of all of them:

>>> len(data.sample(data.load("problems", "dev", limit=100), 10, seed=1))
10
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from densecore import arguments
from densecore.errors import ArgumentError, DataError

from . import folder as local
from . import gsm8k, hotpotqa, hub, problems, squad, svamp
from .record import Record
from .rows import Paragraph, Row
from .splits import Split

_Item = TypeVar("_Item")

_SETS: dict[str, tuple[dict[str, Split], Callable[[Record, str], Row]]] = {
    module.NAME: (module.SPLITS, module.row) for module in (gsm8k, hotpotqa, squad, svamp)
}


def names() -> tuple[str, ...]:
    """The names of the sets.

    >>> names()
    ('gsm8k', 'hotpotqa', 'squad', 'svamp', 'problems')
    """
    return (*_SETS, problems.NAME)


def splits(name: str) -> tuple[str, ...]:
    """The names of a set's splits.

    >>> splits("svamp")
    ('all', 'select', 'rest')
    """
    if name not in names():
        raise ArgumentError(f"name = {name!r:.80}: there are {', '.join(names())}")
    return problems.SPLITS if name == problems.NAME else tuple(_SETS[name][0])


def load(
    name: str,
    split: str = "dev",
    *,
    folder: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """The rows of a split, in an order that never changes.

    Args:
        name: One of :func:`names`.
        split: One of :func:`splits` of the set.
        folder: The data folder; None follows ``DENSECORE_DATA``; ``"hub"``, in either, downloads. The set
            ``problems`` needs neither.
        limit: At most so many, the first ones. For a seeded sample see :func:`sample`. Without it, all; of
            ``problems`` 500.
        seed: Which ``problems`` are generated. The splits of the other sets are fixed and do not depend on it.

    Raises:
        ArgumentError: No such set or split, or a limit below 1.
        DataError: No folder or file, or one that is not as it should be; names file and line. A file is checked as a
            whole, whatever the limit.
        MissingExtraError: The hub is asked for, and ``datasets`` is not installed.
        OfflineError: The hub is asked for, ``HF_HUB_OFFLINE`` is set, and the rows were not downloaded before.
        DownloadError: The hub gave no rows.
    """
    if split not in splits(name):
        raise ArgumentError(f"split = {split!r:.80}: {name} has {', '.join(splits(name))}")
    most = arguments.optional("limit", limit, 1)
    seed = arguments.whole("seed", seed, 0, 2**64 - 1)
    if name == problems.NAME:
        return problems.rows(split, problems.SIZE if most is None else most, seed)
    table, make = _SETS[name]
    chosen = table[split]
    if local.named(folder) == hub.NAME:
        records = hub.read(chosen.hub)
        positions = _positions(chosen, len(records), f"{name}, split {split!r}")[:most]
        return _unique([(record, make(record, split)) for record in map(records.__getitem__, positions)])
    path = local.file(local.find(folder), chosen.files, f"{name}, split {split!r}")
    found = local.read(path)
    rows = _unique([(record, make(record, split)) for record in found])
    return [rows[at] for at in _positions(chosen, len(rows), f"{name}, split {split!r}, from {path}")[:most]]


def sample(rows: Sequence[_Item], count: int, seed: int = 0) -> list[_Item]:
    """``count`` of the rows without repetition, chosen by the seed, in the order in which they were given.

    >>> sample("abcdefgh", 3, seed=1)
    ['b', 'd', 'g']
    """
    wanted = arguments.whole("count", count, 1, len(rows))
    positions = list(range(len(rows)))
    random.Random(arguments.whole("seed", seed, 0, 2**64 - 1)).shuffle(positions)  # noqa: S311
    return [rows[at] for at in sorted(positions[:wanted])]


def _positions(split: Split, count: int, what: str) -> list[int]:
    positions = split.pick(count)
    if not positions:
        raise DataError(f"{what}: the split has no rows, for its source has {count or 'none'}")
    return positions


def _unique(made: list[tuple[Record, Row]]) -> list[Row]:
    """The rows, none of whose ids may occur twice: paired comparisons go by them."""
    seen: dict[str, str] = {}
    for record, row in made:
        if row.id in seen:
            raise record.error(f"the id {row.id!r:.80} is also that of {seen[row.id]}")
        seen[row.id] = record.place
    return [row for _, row in made]


__all__ = ["Paragraph", "Row", "load", "names", "sample", "splits"]
