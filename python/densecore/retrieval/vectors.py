"""Search by vectors: the states of a frozen language model, averaged over a text, compared by their angle.

A language model that was not trained for it is a weak encoder: on HotPotQA words find far more, and both together find less
than words alone (``experiments/retrieval.py``, ``results/experiments/retrieval.json``). Early layers serve best, and means of
normed states: of states that are not normed the first position drowns the rest, and what is left follows a text's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from densecore.arguments import optional, truth, whole
from densecore.errors import ArgumentError
from densecore.retrieval.hit import Hit, asked, best, corpus

if TYPE_CHECKING:
    import numpy.typing as npt

    from densecore.model import Model

POOLS = ("mean", "last")
DEPTH = 10
"""The layer by default: a tenth of the model's."""


class Vectors:
    """Ranks passages by the cosine of their vectors and the query's.

    Args:
        model: Gives the states.
        passages: The corpus, at least one text that says something.
        pool: ``"mean"`` or ``"last"``: what a text's vector is made of.
        layer: Layers passed; a tenth of the model's by default.
        centre: Take the passages' mean off all vectors: the states of one model point in much the same direction.
        batch: Texts encoded in one call.

    >>> import densecore
    >>> model = densecore.Model.load("smollm2-135m-instruct")
    >>> Vectors(model, ["Cats and dogs.", "The price of oil rose."]).search("kittens, puppies", k=1)[0].index
    0
    """

    def __init__(
        self,
        model: Model,
        passages: Sequence[str],
        *,
        pool: str = "mean",
        layer: int | None = None,
        centre: bool = True,
        batch: int = 16,
    ) -> None:
        if pool not in POOLS:
            raise ArgumentError(f"pool = {pool!r:.80}: there are {', '.join(POOLS)}")
        self.model, self.pool, self.batch = model, pool, whole("batch", batch, 1)
        chosen = optional("layer", layer, 0, model.config.layers)
        self.layer = max(1, model.config.layers // DEPTH) if chosen is None else chosen
        found = self._encode([asked(passage) for passage in corpus(passages)])
        self._centre = found.mean(axis=0) if truth("centre", centre) else np.zeros_like(found[0])
        self._vectors = _unit(found - self._centre)

    def search(self, query: str, k: int = 4) -> list[Hit]:
        """The ``k`` best passages, the best first; scores are cosines."""
        vector = _unit(self._encode([asked(query)]) - self._centre)[0]
        return best((self._vectors @ vector).tolist(), k)

    def _encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """One vector a text. Each state is normed first: a few positions are far larger than all others together."""
        parts = [texts[at : at + self.batch] for at in range(0, len(texts), self.batch)]
        states = [
            state for part in parts for state in self.model.encode(part, layer=self.layer, normed=True, pool=self.pool)
        ]
        return np.concatenate([np.asarray(state) for state in states])


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors of length 1; one of length 0, as centring leaves of a single passage, stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))
