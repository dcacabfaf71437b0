"""Every question and answer of GSM8K train, 2,000 SQuAD paragraphs and the hard set, both catalogue models."""

from __future__ import annotations

from typing import Any

from tests.golden import data, reference
from tests.golden.fixtures import real_path

PEERS = ("llama-cpp-python",)
MODELS = ("smollm2-135m-instruct", "qwen2.5-coder-1.5b-instruct")


def check() -> tuple[bool, dict[str, Any]]:
    """Compare ids text by text; the first differing text is kept as a finding."""
    import densecore

    figures: dict[str, Any] = {}
    sets = {"gsm8k": data.gsm8k_texts(), "squad": data.squad_paragraphs(2000), "hard": data.HARD_TEXTS}
    for name in MODELS:
        model = densecore.Model.load(real_path(name))
        peer = reference.llama(real_path(name), vocab_only=True)
        for title, texts in sets.items():
            wrong, ids_seen, first = 0, 0, None
            for text, ours in zip(texts, model.tokenize(texts), strict=True):
                theirs = reference.llama_ids(peer, text)
                ids_seen += len(theirs)
                if list(ours) != theirs:
                    wrong, first = wrong + 1, first or text
            figures[f"{name} {title}"] = {"texts": len(texts), "ids": ids_seen, "differ": wrong, "first": first}
    complete = all(row["texts"] >= 2000 for key, row in figures.items() if not key.endswith("hard"))
    return complete and not any(row["differ"] for row in figures.values()), figures
