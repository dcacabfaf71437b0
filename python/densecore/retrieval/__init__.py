"""Search in a handful of passages: by words, by a model's vectors, by both. Knows no program; needs NumPy alone.

>>> from densecore.retrieval import BM25
>>> BM25(["Rome | An old city.", "Oslo | The capital of Norway."]).search("the capital of Norway", k=1)[0].index
1
"""

from __future__ import annotations

from densecore.retrieval.bm25 import BM25
from densecore.retrieval.fused import Fused
from densecore.retrieval.hit import Hit, Retriever
from densecore.retrieval.vectors import Vectors

__all__ = ["BM25", "Fused", "Hit", "Retriever", "Vectors"]
