"""Search in passages: the formulas, their ties and edges, and what they find of real supporting paragraphs."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from densecore import data
from densecore.errors import ArgumentError
from densecore.retrieval import BM25, Fused, Hit, Vectors
from densecore.retrieval.bm25 import words

CITIES = ["Rome | An old city.", "Oslo | The capital of Norway.", "Lima | A city in Peru.", "Tea | A drink."]


class Bag:
    """A model whose states count words: what `Vectors` asks of it, it keeps."""

    class config:
        layers = 30

    def __init__(self, vocabulary: Sequence[str] = ("city", "capital", "norway", "drink")) -> None:
        self.vocabulary = list(vocabulary)
        self.calls: list[tuple[int, dict[str, Any]]] = []

    def encode(self, texts: list[str], **options: Any) -> list[np.ndarray]:
        self.calls.append((len(texts), options))
        counts = [[10.0, *map(words(text).count, self.vocabulary)] for text in texts]
        return [np.array([row], np.float32) for row in counts]


def indices(hits: list[Hit]) -> list[int]:
    return [hit.index for hit in hits]


class TestBM25:
    @pytest.mark.parametrize("seed", range(5))
    def test_scores_are_the_formula(self, seed: int) -> None:
        """Against the formula written out over plain lists."""
        stream = random.Random(seed)
        terms = [f"w{number}" for number in range(12)]
        corpus = [" ".join(stream.choices(terms, k=stream.randrange(1, 30))) for _ in range(stream.randrange(2, 12))]
        query = stream.sample(terms, 4)
        k1, b = stream.uniform(0.5, 2), stream.random()
        mean = sum(len(text.split()) for text in corpus) / len(corpus)
        for hit in BM25(corpus, k1=k1, b=b).search(" ".join(query + query), len(corpus)):
            text = corpus[hit.index].split()
            expected = 0.0
            for term in query:
                having = sum(term in other.split() for other in corpus)
                idf = math.log(1 + (len(corpus) - having + 0.5) / (having + 0.5))
                often = text.count(term)
                expected += idf * often * (k1 + 1) / (often + k1 * (1 - b + b * len(text) / mean))
            assert hit.score == pytest.approx(expected, rel=1e-12)

    def test_the_best_come_first_and_ties_in_order(self) -> None:
        assert indices(BM25(CITIES).search("Which city is the capital of Norway?", 4)) == [1, 0, 2, 3]
        hits = BM25(["b", "a", "a", "a"]).search("a", 3)
        assert indices(hits) == [1, 2, 3]
        assert hits[0].score == hits[2].score > 0
        assert [hit.score for hit in BM25(CITIES).search("elephants", 9)] == [0.0] * 4

    def test_words_are_compared_and_not_their_spelling(self) -> None:
        passages = ["Zoë’s FILMS | in Malmö", "nothing", "ΣΊΣΥΦΟΣ"]
        for query in ("zoe", "film", "malmo", "Zoe's film"):
            assert indices(BM25(passages).search(query, 1)) == [0]
        assert indices(BM25(passages).search("σίσυφος", 1)) == [2]

    def test_stop_words_count_only_where_there_is_nothing_else(self) -> None:
        passages = ["the who", "who was this", "a drummer"]
        assert indices(BM25(passages).search("Who was the drummer?", 1)) == [2]
        assert indices(BM25(passages).search("the", 1)) == [0]
        assert BM25(passages, stops=()).search("Who was the drummer?", 3)[0].index != 2

    def test_texts_without_words(self) -> None:
        assert indices(BM25(["...", ""]).search("word", 2)) == [0, 1]
        assert indices(BM25(CITIES).search("?!", 2)) == [0, 1]

    @pytest.mark.parametrize("options", [{"k1": -1}, {"k1": math.nan}, {"k1": math.inf}, {"b": 1.1}, {"b": "x"}])
    def test_settings_outside_their_range(self, options: dict[str, Any]) -> None:
        with pytest.raises(ArgumentError):
            BM25(CITIES, **options)


class TestVectors:
    def test_the_angle_decides(self) -> None:
        hits = Vectors(Bag(), CITIES).search("the capital of Norway", 4)
        assert hits[0].index == 1
        assert hits[0].score == pytest.approx(1.0)
        assert all(-1.0001 <= hit.score <= 1.0001 for hit in hits)

    def test_centring_takes_off_what_all_have_in_common(self) -> None:
        """Ten in the first component of every vector drowns the rest."""
        query = "a city, a city, a drink"
        centred, plain = (Vectors(Bag(), CITIES, centre=centre).search(query, 4) for centre in (True, False))
        assert min(hit.score for hit in plain) > 0.9
        assert min(hit.score for hit in centred) < 0 < 0.5 < centred[0].score

    def test_what_the_model_is_asked(self) -> None:
        model = Bag()
        search = Vectors(model, CITIES * 3, pool="last", layer=4, batch=5)
        search.search("Oslo")
        assert [count for count, _ in model.calls] == [5, 5, 2, 1]
        assert all(options == {"layer": 4, "normed": True, "pool": "last"} for _, options in model.calls)
        Vectors(model, CITIES)
        assert model.calls[-1][1] == {"layer": 3, "normed": True, "pool": "mean"}

    def test_one_passage_is_found(self) -> None:
        assert Vectors(Bag(), ["Rome"]).search("Oslo", 3) == [Hit(0, 0.0)]

    def test_settings_outside_their_range(self) -> None:
        for options in ({"pool": "max"}, {"layer": 31}, {"layer": -1}, {"batch": 0}, {"centre": 1}):
            with pytest.raises(ArgumentError):
                Vectors(Bag(), CITIES, **options)


class Fixed:
    def __init__(self, *hits: tuple[int, float]) -> None:
        self.hits = [Hit(*hit) for hit in hits]

    def search(self, query: str, k: int = 4) -> list[Hit]:
        return self.hits[:k]


class TestFused:
    def test_places_are_added(self) -> None:
        first, second = Fixed((2, 9.0), (0, 8.0), (1, 7.0)), Fixed((0, 0.3), (1, 0.2), (2, 0.1))
        hits = Fused([first, second], 3, damping=1).search("q", 3)
        assert hits == [Hit(0, 1 / 3 + 1 / 2), Hit(2, 1 / 2 + 1 / 4), Hit(1, 1 / 4 + 1 / 3)]

    def test_what_a_search_did_not_find_has_no_order(self) -> None:
        """Zeros of BM25 share a place, so that the other search decides among them."""
        words_ = Fixed((3, 1.0), (0, 0.0), (1, 0.0), (2, 0.0))
        vectors = Fixed((2, 0.9), (3, 0.8), (1, 0.7), (0, 0.6))
        assert indices(Fused([words_, vectors], 4).search("q", 4)) == [3, 2, 1, 0]

    def test_settings_outside_their_range(self) -> None:
        for make in (lambda: Fused([], 3), lambda: Fused([Fixed()], 0), lambda: Fused([Fixed()], 1, damping=-1)):
            with pytest.raises(ArgumentError):
                make()


@pytest.mark.parametrize("make", [BM25, lambda texts: Vectors(Bag(), texts)])
def test_bad_input_is_named(make: Any) -> None:
    for passages in ([], "one text", ["fine", None]):
        with pytest.raises(ArgumentError, match="passages"):
            make(passages)
    search = make(CITIES)
    for query in ("", " \n", None, 7):
        with pytest.raises(ArgumentError, match="query"):
            search.search(query)
    for k in (0, -1, 1.5, True, "2"):
        with pytest.raises(ArgumentError, match="k = "):
            search.search("Rome", k)
    assert len(search.search("Rome", 99)) == len(CITIES)


@pytest.mark.skipif(not os.environ.get("DENSECORE_DATA"), reason="DENSECORE_DATA names no folder of public rows")
def test_supporting_paragraphs_are_found() -> None:
    """By words alone, four of ten paragraphs hold 0.83 of the supporting ones (chance: 0.40)."""
    rows = data.load("hotpotqa", "dev", limit=300)
    found = wanted = 0
    for row in rows:
        hits = BM25([f"{paragraph.title} | {paragraph.text}" for paragraph in row.paragraphs]).search(row.question, 4)
        titles = {row.paragraphs[hit.index].title for hit in hits}
        found += sum(title in titles for title in row.supporting)
        wanted += len(row.supporting)
    assert found / wanted > 0.8, (found, wanted)
