"""A row: one question of a data set, with the answers that count as right."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from densecore.errors import DataError


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A piece of evidence: its title (empty if the set has none) and its text."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One question, alike for all sets.

    Attributes:
        id: Unique within the set; the same row has the same id in every run.
        question: The question, without surrounding white space.
        answers: Every accepted answer, at least one; repeated ones are listed once.
        solution: The worked solution as the set gives it, ``""`` if it gives none.
        paragraphs: The evidence, in the order of the set.
        supporting: Titles of the paragraphs that are needed, each once.
        set: Name of the set.
        split: Name of the split.

    >>> row = Row("1", "What is 2 + 2?", ("4", "four"))
    >>> row.answer, row.field("question")
    ('4', 'What is 2 + 2?')
    """

    id: str
    question: str
    answers: tuple[str, ...]
    solution: str = ""
    paragraphs: tuple[Paragraph, ...] = ()
    supporting: tuple[str, ...] = ()
    set: str = ""
    split: str = ""

    @property
    def answer(self) -> str:
        """The first accepted answer."""
        return self.answers[0]

    def field(self, name: str) -> object:
        """The value of a field by its name, ``answer`` included; a name that is none is a :class:`DataError`."""
        known = ("answer", *(entry.name for entry in dataclasses.fields(self)))
        if name not in known:
            raise DataError(f"field {name!r:.80} is unknown: a row has {', '.join(sorted(known))}")
        value: object = getattr(self, name)
        return value
