"""The rows a compile may see: demonstrations come from training rows, candidates are chosen on rows held back for choosing."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any

import dspy

from densecore import arguments, data
from densecore.errors import ArgumentError
from densecore.programs.task import Task, task_of

DEFAULTS = {
    "gsm8k": ("gsm8k/train", "svamp/select"),
    "svamp": ("gsm8k/train", "svamp/select"),
    "problems": ("problems/train", "problems/select"),
    "hotpotqa": ("hotpotqa/train", "hotpotqa/select"),
    "squad": ("squad/train", "hotpotqa/select"),
}
"""Of each set: where its demonstrations come from, and what its candidates are chosen on."""
TRAIN_ROWS, SELECT_ROWS = 200, 100
"""How many are taken where nobody says, or all if there are fewer."""


@dataclass(frozen=True)
class Rows:
    """Rows of a split, as taken for a run."""

    place: str
    """``SET/SPLIT``."""
    rows: tuple[data.Row, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """What a saved program says of them."""
        ids = "\n".join(row.id for row in self.rows)
        return {"from": self.place, "rows": len(self.rows), "ids_sha256": hashlib.sha256(ids.encode()).hexdigest()}


def take(place: str, role: str, count: int | None, most: int, folder: Any, seed: int) -> Rows:
    """A seeded choice of ``count`` rows, shuffled; at most ``most`` of all by default.

    Args:
        place: ``SET/SPLIT``.
        role: ``"train"`` or ``"select"``, which the split must be called: whatever else there is may be reported on, and
            nothing that was chosen by is a result.
        count: How many.
        most: The default.
        folder: See :func:`densecore.data.load`.
        seed: Of the choice.

    >>> take("problems/train", "train", 3, 9, None, 0).facts["rows"]
    3
    """
    name, split = checked(place, role)
    rows = data.load(name, split, folder=folder)
    wanted = min(most, len(rows)) if count is None else arguments.whole(f"{role} rows", count, 1, len(rows))
    rows = data.sample(rows, wanted, seed)
    random.Random(f"densecore {role} {seed}").shuffle(rows)  # noqa: S311
    return Rows(place, tuple(rows))


def checked(place: str, role: str) -> tuple[str, str]:
    """Set and split of a place, if rows may be taken from there for the role.

    >>> checked("svamp/select", "select")
    ('svamp', 'select')
    """
    name, mark, split = place.partition("/")
    if not mark or split not in data.splits(name):
        raise ArgumentError(
            f"{role} = {place!r:.80}: name a set and its split, as in {DEFAULTS['gsm8k'][role == 'select']}"
        )
    if split != role:
        fit = [f"{each}/{role}" for each in data.names() if role in data.splits(each)]
        use = "demonstrations come" if role == "train" else "candidates are chosen"
        raise ArgumentError(
            f"{role} = {place!r}: rows that results may be reported on choose nothing; {use} from {', '.join(fit)}"
        )
    return name, split


def same_task(set_name: str, *places: str) -> Task:
    """The task of the set, which must be that of the places, too."""
    task = task_of(set_name)
    for place in places:
        if task_of(place.partition("/")[0]) is not task:
            raise ArgumentError(f"{place!r}: its rows are no {task.name} as those of {set_name} are")
    return task


def examples(rows: Rows, task: Task, program: dspy.Module) -> list[dspy.Example]:
    """The rows for DSPy, with what the program's predictors may use and nothing else.

    An optimiser shows whole examples to a language model that writes instructions. The row itself goes with them as
    ``dspy_row``, which by its name stays out of sight.
    """
    used = {"answer", *program.reads, *(name for each in program.predictors() for name in each.signature.fields)}
    found = []
    for row in rows.rows:
        made = task.example(row, program.reads)
        facts = {name: value for name, value in made.items() if name in used}
        found.append(dspy.Example(dspy_row=row, **facts).with_inputs(*program.reads))
    return found
