"""What programs search: a row's paragraphs as passages, by a search that has a name or is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dspy

from densecore.data import Paragraph
from densecore.errors import ArgumentError
from densecore.model import Model
from densecore.retrieval import BM25, Fused, Retriever, Vectors

Make = Callable[[Sequence[str]], Retriever]
"""From passages to a search over them."""


def passages(paragraphs: Sequence[Paragraph]) -> list[str]:
    """Paragraphs as texts, ``title | text``, each once.

    >>> passages([Paragraph("Rome", "An old city."), Paragraph("Rome", "An old city.")])
    ['Rome | An old city.']
    """
    return list(dict.fromkeys(f"{paragraph.title} | {paragraph.text}" for paragraph in paragraphs))


def title(passage: str) -> str:
    """The title of a passage."""
    return passage.split(" | ", 1)[0]


def maker(search: str | Make) -> Make:
    """A search by its name, ``"bm25"``, ``"vectors"`` or ``"fused"``; one that is given stays what it is.

    BM25 finds most. Vectors cost a tenth of the model's layers over all passages, which no meter counts.
    """
    if callable(search):
        return search
    if search not in _MAKERS:
        raise ArgumentError(f"search = {search!r:.80}: there are {', '.join(_MAKERS)}, or give what makes one")
    return _MAKERS[search]


def _vectors(texts: Sequence[str]) -> Vectors:
    return Vectors(_model(), texts)


def _fused(texts: Sequence[str]) -> Fused:
    return Fused([BM25(texts), _vectors(texts)], len(texts))


def _model() -> Model:
    model = getattr(dspy.settings.lm, "dense", None)
    if not isinstance(model, Model):
        raise ArgumentError(
            f"lm = {dspy.settings.lm!r:.80}: vectors need densecore.dspy.DenseLM; search='bm25' works with any language model"
        )
    return model


_MAKERS: dict[str, Make] = {"bm25": BM25, "vectors": _vectors, "fused": _fused}
