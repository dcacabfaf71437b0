"""Questions whose answer lies in several passages: search, read what was found, search for what is missing, answer."""

from __future__ import annotations

from collections.abc import Sequence

import dspy
from dspy.utils.exceptions import AdapterParseError

from densecore.arguments import whole
from densecore.data import Paragraph
from densecore.errors import ArgumentError
from densecore.programs.search import Make, maker, passages, title
from densecore.programs.task import PASSAGES, Task
from densecore.retrieval.bm25 import STOPS, words


class FollowUp(dspy.Signature):  # type: ignore[misc]
    """Write a short search query for what must still be found to answer the question: names and key words only."""

    context: list[str] = dspy.InputField(desc="passages found so far")
    question: str = dspy.InputField()
    query: str = dspy.OutputField(desc="a few words")


class MultiHop(dspy.Module):  # type: ignore[misc]
    """Searches in hops, then reasons and answers. The first hop asks the question, later ones a query of the model's.

    Every hop finds passages that were not found before, an equal share of ``k``. A query without a word that the question
    lacks, or one that cannot be read, is replaced by the question together with the passages found. That needs no model and
    is no poor query: it finds more than four passages by the question do (``results/experiments/retrieval.json``).

    Args:
        task: What is asked; its signature must read passages.
        hops: Searches.
        k: Passages in all, at most.
        search: ``"bm25"``, ``"vectors"`` or ``"fused"`` (both need :class:`densecore.dspy.DenseLM`), or a function from
            passages to a :class:`densecore.retrieval.Retriever`.
    """

    reads = ("question", "paragraphs")

    def __init__(self, task: Task, *, hops: int = 2, k: int = PASSAGES, search: str | Make = "bm25") -> None:
        super().__init__()
        if set(task.signature.input_fields) != {"context", "question"}:
            raise ArgumentError(
                f"task = {task.name!r}: MultiHop searches passages; give a task over passages, such as qa"
            )
        self.hops = whole("hops", hops, 1)
        self.k = whole("k", k, self.hops)
        self.make = maker(search)
        self.query = dspy.Predict(FollowUp)
        self.answer = dspy.ChainOfThought(task.signature)

    def forward(self, question: str, paragraphs: Sequence[Paragraph]) -> dspy.Prediction:
        """Search, then answer. The prediction has ``query``, the last one, and ``context``, the titles found."""
        texts = passages(paragraphs)
        search = self.make(texts)
        found: list[int] = []
        asked = [question]
        for hop in range(1, self.hops + 1):
            if hop > 1 and len(found) < len(texts):
                asked.append(self._follow_up(question, [texts[at] for at in found], asked))
            fresh = [hit.index for hit in search.search(asked[-1], len(texts)) if hit.index not in found]
            found += fresh[: self.k * hop // self.hops - len(found)]
        context = [texts[at] for at in found]
        answered = self.answer(context=context, question=question)
        return dspy.Prediction(**answered, query=asked[-1], context=[title(passage) for passage in context])

    def _follow_up(self, question: str, context: list[str], asked: list[str]) -> str:
        """What to search for next."""
        try:
            query = str(self.query(context=context, question=question).query or "").strip()
        except AdapterParseError:  # a small model misses the form at times; the search goes on without its words
            query = ""
        fresh = set(words(query)) - set(words(question)) - STOPS
        if fresh and query not in asked:
            return query
        return "\n".join([question, *context])
