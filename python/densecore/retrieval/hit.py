"""What a search finds, and what searches have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from densecore.arguments import whole
from densecore.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found: its index in the corpus, and how well it fits; scores compare within one search."""

    index: int
    score: float


class Retriever(Protocol):
    """Anything that ranks the passages it was made for."""

    def search(self, query: str, k: int = 4) -> list[Hit]:
        """The ``k`` best passages, the best first."""
        ...


def corpus(passages: Sequence[str]) -> list[str]:
    """The passages, which must be texts and at least one."""
    if isinstance(passages, str):
        raise ArgumentError(f"passages = {passages!r:.80}: give a list of texts, not one text")
    found = list(passages)
    for at, passage in enumerate(found):
        if not isinstance(passage, str):
            raise ArgumentError(f"passages[{at}] = {passage!r:.80}: each passage must be a text")
    if not found:
        raise ArgumentError("passages = []: there is nothing to search; give at least one passage")
    return found


def asked(query: str) -> str:
    """The query, which must say something."""
    if not isinstance(query, str) or not query.strip():
        raise ArgumentError(f"query = {query!r:.80}: it must be a text that says something")
    return query


def best(scores: Sequence[float], k: int) -> list[Hit]:
    """The ``k`` highest scores, or all where there are fewer; of equal ones the first passage comes first.

    >>> best([0.5, 2.0, 2.0], 2)
    [Hit(index=1, score=2.0), Hit(index=2, score=2.0)]
    """
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
    return [Hit(at, float(scores[at])) for at in order[: whole("k", k, 1)]]
