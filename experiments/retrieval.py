"""Retrieval over HotPotQA's own paragraphs: how many of the supporting ones are among the best four.

By words (BM25), by vectors of a frozen small model, by both, and in two hops. Needs the data (DENSECORE_DATA); some minutes.

    python experiments/retrieval.py [--vectors ROWS]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from densecore import Model, data, models
from densecore.metrics import paired_bootstrap
from densecore.programs.search import passages, title
from densecore.report.record import machine
from densecore.retrieval import BM25, Fused, Vectors
from densecore.runs.replace import write_text

PLACE = Path("results/experiments/retrieval.json")
MODEL = "smollm2-135m-instruct"
K = 4
CUT = 240  # characters: whole paragraphs differ in length, and length alone finds some


def recall(row: data.Row, found: list[int], texts: list[str]) -> float:
    """The share of the supporting paragraphs that was found."""
    titles = {title(texts[at]) for at in found}
    return statistics.mean(wanted in titles for wanted in row.supporting)


def by_words(row: data.Row, texts: list[str]) -> list[int]:
    """Four by the question."""
    return [hit.index for hit in BM25(texts).search(row.question, K)]


def in_two_hops(row: data.Row, texts: list[str]) -> list[int]:
    """Two by the question, two more by the question with what was found: no model is asked."""
    search = BM25(texts)
    first = [hit.index for hit in search.search(row.question, K // 2)]
    query = "\n".join([row.question, *(texts[at] for at in first)])
    return first + [hit.index for hit in search.search(query, len(texts)) if hit.index not in first][: K - len(first)]


def measure(
    rows: list[data.Row], find: Callable[[data.Row, list[str]], list[int]], cut: int | None
) -> dict[str, object]:
    """Recall with its interval, and how often all supporting paragraphs were found."""
    found = []
    for row in rows:
        texts = [text[:cut] for text in passages(row.paragraphs)]
        found.append(recall(row, find(row, texts), texts))
    mean = paired_bootstrap(found, [0.0] * len(found))
    return {
        "n": len(found),
        "recall": round(mean.difference, 4),
        "interval": [round(mean.low, 4), round(mean.high, 4)],
        "all_found": round(statistics.mean(value == 1 for value in found), 4),
    }


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=80, metavar="ROWS", help="train rows for vectors; 0 for none")
    options = parser.parse_args()
    dev = data.load("hotpotqa", "dev", limit=300)
    train = data.load("hotpotqa", "train")
    rows = [
        {"search": "bm25", "split": "dev", **measure(dev, by_words, None)},
        {"search": "bm25 in two hops", "split": "dev", **measure(dev, in_two_hops, None)},
        {"search": "bm25", "split": "train", **measure(train, by_words, None)},
        {"search": "bm25 in two hops", "split": "train", **measure(train, in_two_hops, None)},
    ]
    made = {"command": " ".join(["python", *sys.orig_argv[1:]]), "seed": 0, "k": K, "machine": machine()}
    if options.vectors:
        model = Model.load(MODEL)
        made |= {"model": MODEL, "model_hash": models.resolve(MODEL).sha256}
        some = train[: options.vectors]

        def by_vectors(row: data.Row, texts: list[str]) -> list[int]:
            return [hit.index for hit in Vectors(model, texts).search(row.question, K)]

        def by_both(row: data.Row, texts: list[str]) -> list[int]:
            both = Fused([BM25(texts), Vectors(model, texts)], len(texts))
            return [hit.index for hit in both.search(row.question, K)]

        for name, find in (("bm25", by_words), ("vectors", by_vectors), ("fused", by_both)):
            rows.append({"search": name, "split": f"train, {CUT} characters each", **measure(some, find, CUT)})
    made["rows"] = rows
    for row in rows:
        print(f"{row['search']:18} {row['split']:28} {row['n']:4} recall@{K} {row['recall']:.3f} {row['interval']}")
    write_text(PLACE, json.dumps(made, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
