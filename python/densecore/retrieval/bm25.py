"""Okapi BM25 over a handful of passages: words in common, rare ones counting more.

Frequencies are those of the passages given, so that ten paragraphs are ranked among themselves and nothing else is
needed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from densecore.arguments import number
from densecore.errors import ArgumentError
from densecore.retrieval.hit import Hit, asked, best, corpus

_WORD = re.compile(r"[^\W_]+")
_PLURAL = re.compile(r"(?<=\w{3})(?<!s)s$")


def words(text: str) -> list[str]:
    """Words in one spelling: without case, accents, compatibility forms and the ``s`` of a plural.

    >>> words("Zoë's 2 films, the ﬁrst of the 1990s")
    ['zoe', 's', '2', 'film', 'the', 'first', 'of', 'the', '1990']
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return [_PLURAL.sub("", word) for word in _WORD.findall(plain)]


# Words that questions are made of; in ten passages their frequencies are too coarse to show how little they say.
STOPS = frozenset(
    words(
        "a an and are as at be been but by can did do does for from had has have he her him his how i if in into is it its "
        "of on or s she so t than that the their them there these they this those to was we were what when where which while "
        "who whom whose why will with would you"
    )
)


class BM25:
    """Ranks passages by the words they share with a query.

    Args:
        passages: The corpus, at least one text.
        k1: How much more a repeated word counts.
        b: How much a passage's length counts against it, from 0 to 1.
        stops: Words that are passed over, in queries that have others.

    >>> found = BM25(["Rome | An old city.", "Oslo | A city in Norway."]).search("Which city is in Norway?", k=1)
    >>> found[0].index
    1
    """

    def __init__(
        self, passages: Sequence[str], *, k1: float = 1.5, b: float = 0.75, stops: Iterable[str] = STOPS
    ) -> None:
        self.k1, self.b = number("k1", k1), number("b", b)
        self.stops = frozenset(words(" ".join(stops)))
        if not (0 <= self.k1 < math.inf and 0 <= self.b <= 1):
            raise ArgumentError(f"k1 = {k1}, b = {b}: k1 must be 0 or more, and b from 0 to 1")
        self._counts = [Counter(words(passage)) for passage in corpus(passages)]
        lengths = [sum(counts.values()) for counts in self._counts]
        mean = sum(lengths) / len(lengths) or 1.0
        self._norms = [self.k1 * (1 - self.b + self.b * length / mean) for length in lengths]
        self._having = Counter(word for counts in self._counts for word in counts)

    def search(self, query: str, k: int = 4) -> list[Hit]:
        """The ``k`` best passages, the best first; a passage that shares no word scores 0 and comes in its order."""
        every = dict.fromkeys(words(asked(query)))
        terms = [word for word in every if word not in self.stops] or list(every)
        return best([self._score(at, terms) for at in range(len(self._counts))], k)

    def _score(self, at: int, terms: list[str]) -> float:
        counts, norm = self._counts[at], self._norms[at]
        return sum(
            self._weight(word) * counts[word] * (self.k1 + 1) / (counts[word] + norm) for word in terms if counts[word]
        )

    def _weight(self, word: str) -> float:
        """The inverse document frequency that never falls below 0."""
        having = self._having[word]
        return math.log1p((len(self._counts) - having + 0.5) / (having + 0.5))
