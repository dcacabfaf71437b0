"""Gradients through real Qwen Q4_K_M against torch's autograd on the same weights dequantised: 100 GSM8K problems.

The vectors are the question's embeddings, the targets the beginning of its answer; both sides see the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden import data, reference
from tests.golden.fixtures import real_path
from tests.verify.record import say, threads

PEERS = ("transformers", "torch", "gguf")
NAME = "qwen2.5-coder-1.5b-instruct"
MODELS = (NAME,)
PROMPTS = 100
TARGETS = 16  # tokens
COSINE = {"median": 0.99, "minimum": 0.97}
LOSS = 0.01  # relative


def check() -> tuple[bool, dict[str, Any]]:
    """Cosines of the gradients and relative differences of the losses."""
    import torch

    import densecore

    torch.set_num_threads(threads())
    path = real_path(NAME)
    model = densecore.Model.load(path, context=1024)
    items = []
    for row in data.rows("gsm8k/dev500.jsonl", PROMPTS):
        vectors = np.asarray(model.embed(f"Question: {row['question']}\nAnswer: "))
        items.append((vectors, model.tokenize(row["answer"])[:TARGETS]))
    ours = [model.loss_and_grad(None, *item) for item in items]
    say("  our gradients are there; torch's follow")
    theirs = reference.model_from_gguf(path).requires_grad_(False)
    cosines, losses, means = [], [], []
    for i, ((vectors, targets), mine) in enumerate(zip(items, ours, strict=True)):
        loss, grad = reference.gradient(theirs, [], vectors, targets)
        a, b = mine.grad.astype(np.float64).ravel(), grad.astype(np.float64).ravel()
        cosines.append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        losses.append(abs(mine.loss / loss - 1))
        means.append((mine.loss, loss))
        if (i + 1) % 10 == 0:
            say(f"  {i + 1} of {len(items)}: cosine {np.median(cosines):.4f}, at least {min(cosines):.4f}")
    figures = {
        "prompts": len(items),
        "targets_each": TARGETS,
        "positions": sum(len(v) + len(t) - 1 for v, t in items),
        "cosine": {"median": float(np.median(cosines)), "minimum": min(cosines)},
        "relative_loss": {
            "median": float(np.median(losses)),
            "maximum": max(losses),
            "of_the_mean": float(abs(np.subtract(*np.mean(means, axis=0)) / np.mean(means, axis=0)[1])),
        },
    }
    passed = figures["cosine"]["median"] >= COSINE["median"] and figures["cosine"]["minimum"] >= COSINE["minimum"]
    return passed and max(losses) <= LOSS, figures
