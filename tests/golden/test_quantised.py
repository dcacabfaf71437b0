"""GGUF types against the float32 model of the same dequantised weights, with llama.cpp as the yardstick.

An engine that rounds activations to eight bits is not equal to float32; it must not stray further than llama.cpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import densecore
from densecore import Ids
from tests import tiny
from tests.golden.fixtures import close

reference = pytest.importorskip(
    "tests.golden.reference", reason="the reference is the extra `dev`", exc_type=ImportError
)

FLOATS = ["F32", "F16", "BF16"]
BLOCKS = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
CASES = [("qwen2", kind) for kind in FLOATS + BLOCKS] + [
    (arch, kind) for arch in ("qwen3", "llama") for kind in ("F32", "Q8_0", "Q4_K")
]


def draw(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, tiny.VOCAB, length).tolist()


@pytest.mark.parametrize(("arch", "kind"), CASES, ids=lambda value: value)
def test_logits(arch: str, kind: str, tmp_path: Any) -> None:
    path = tiny.make_tiny_gguf(arch, tmp_path / f"{arch}-{kind}.gguf", kind, seed=5, tied=arch != "qwen3")
    model, theirs = densecore.Model.load(path, kv="f32"), reference.model_from_gguf(path)
    peer = reference.llama(path, n_ctx=512, logits_all=True, n_threads=1, n_threads_batch=1)
    ours_apart, peer_apart, cosines = [], [], []
    for length in (1, 3, 60, 200):
        ids = draw(length, length)
        expected, states = reference.forward(theirs, ids)
        ours = model.logits(Ids(ids))
        if kind == "F32":
            close(ours, expected)
        ours_apart.append(reference.divergence(expected, ours))
        peer_apart.append(reference.divergence(expected, reference.llama_logits(peer, ids)))
        final = np.asarray(model.encode(Ids(ids)))
        norms = np.linalg.norm(final, axis=1) * np.linalg.norm(states[-1], axis=1)
        cosines.append((final * states[-1]).sum(axis=1) / norms)
    ours_mean, peer_mean = (float(np.concatenate(rows).mean()) for rows in (ours_apart, peer_apart))
    assert np.median(np.concatenate(cosines)) >= 0.99
    assert ours_mean <= 1.25 * peer_mean + 2e-5, f"KL {ours_mean:.2e}, llama.cpp's {peer_mean:.2e}"


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_K"])
def test_embedding_rows_are_the_dequantised_rows(kind: str, tmp_path: Any) -> None:
    path = tiny.make_tiny_gguf("qwen2", tmp_path / "model.gguf", kind, seed=6)
    table = reference.model_from_gguf(path).get_input_embeddings().weight.detach().numpy()
    ids = list(range(tiny.VOCAB))
    np.testing.assert_allclose(densecore.Model.load(path).embed(Ids(ids)), table[ids], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "Q6_K"])
def test_cached_batched_and_whole_agree_when_quantised(kind: str, tmp_path: Any) -> None:
    """One activation row is rounded the same way whoever stands beside it, so the paths agree closely here too."""
    model = densecore.Model.load(tiny.make_tiny_gguf("qwen2", tmp_path / "model.gguf", kind, seed=7), kv="f32")
    ids = draw(1, 90)
    whole = reference.log_softmax(model.logits(Ids(ids)))
    expected = whole[39:-1][np.arange(50), ids[40:]]
    close(model.prefill(Ids(ids[:40])).score(Ids(ids[40:])).logprobs, expected, 2e-3)
    context = model.prefill(Ids(ids[:40]))
    for number in ids[40:60]:
        context.extend(Ids([number]))
    close(context.score(Ids(ids[60:])).logprobs, expected[20:], 2e-3)
    batch = model.logits([[Ids(ids)], [Ids(ids[:7])], [Ids(ids[:50])]])
    close(reference.log_softmax(batch[0]), whole, 2e-3)
    close(reference.log_softmax(batch[2]), whole[:50], 2e-3)


def test_sixteen_bit_cache_stays_close(tmp_path: Any) -> None:
    path = tiny.make_tiny_gguf("qwen3", tmp_path / "model.gguf", "F32", seed=8)
    ids = draw(2, 150)
    full, half = (densecore.Model.load(path, kv=kind).logits(Ids(ids)) for kind in ("f32", "f16"))
    assert reference.divergence(full, half).mean() < 1e-4
