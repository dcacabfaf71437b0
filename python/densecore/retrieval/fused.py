"""Several searches as one: reciprocal rank fusion, which needs no scores that compare."""

from __future__ import annotations

from collections.abc import Sequence

from densecore.arguments import number, whole
from densecore.errors import ArgumentError
from densecore.retrieval.hit import Hit, Retriever, best

DAMPING = 60.0
"""The constant of the method's authors (Cormack, Clarke and Büttcher, 2009)."""


class Fused:
    """Ranks passages by where several searches over the same corpus place them.

    A passage scores the sum of ``1 / (damping + place)``. Passages that a search finds equal share the last of
    their places, so that the order of what it did not find says nothing.

    Args:
        searches: The searches, at least one.
        size: Passages in their corpus.
        damping: How little first places count more than later ones.

    >>> from densecore.retrieval.bm25 import BM25
    >>> passages = ["an old city", "a city in Norway", "a river"]
    >>> Fused([BM25(passages), BM25(passages, b=0)], len(passages)).search("Norway", k=1)[0].index
    1
    """

    def __init__(self, searches: Sequence[Retriever], size: int, *, damping: float = DAMPING) -> None:
        self.searches, self.size, self.damping = list(searches), whole("size", size, 1), number("damping", damping)
        if not self.searches:
            raise ArgumentError("searches = []: give at least one search to fuse")
        if not self.damping >= 0:
            raise ArgumentError(f"damping = {damping!r}: it must be 0 or more")

    def search(self, query: str, k: int = 4) -> list[Hit]:
        """The ``k`` best passages, the best first."""
        scores = [0.0] * self.size
        for search in self.searches:
            hits = search.search(query, self.size)
            for hit in hits:
                place = sum(other.score >= hit.score for other in hits)
                scores[hit.index] += 1 / (self.damping + place)
        return best(scores, k)
