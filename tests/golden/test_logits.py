"""Logits and hidden states of every layer against transformers: float32, every parameter random, 1e-4."""

from __future__ import annotations

import numpy as np
import pytest

import densecore
from densecore import Ids, Prompt
from tests.golden.fixtures import Pair, close, make_pair

reference = pytest.importorskip(
    "tests.golden.reference", reason="the reference is the extra `dev`", exc_type=ImportError
)

LENGTHS = (1, 2, 17, 130, 257, 700)  # 1,107 positions, on both sides of any tile or chunk


def test_the_comparison_is_long_enough() -> None:
    assert sum(LENGTHS) >= 1000


@pytest.mark.parametrize("length", LENGTHS)
def test_logits_from_ids(pair: Pair, length: int) -> None:
    ids = pair.ids(length, length)
    expected, _ = reference.forward(pair.theirs, ids)
    if length >= 100:
        assert expected.std() >= 1
    close(pair.ours.logits(Ids(ids)), expected)


@pytest.mark.parametrize("length", LENGTHS)
def test_logits_from_embeddings(pair: Pair, length: int) -> None:
    ids = pair.ids(length + 1, length)
    table = reference.embeddings(pair.theirs).detach().numpy()
    noise = np.random.default_rng(length).standard_normal((length, table.shape[1])).astype(np.float32)
    vectors = table[ids] + 0.1 * noise  # not rows of the table: nothing may look the ids up again
    expected, states = reference.forward(pair.theirs, vectors=vectors)
    hidden = densecore.Hidden.wrap(vectors, like=pair.ours)
    close(pair.ours.logits(Prompt(hidden)), expected)
    close(pair.ours.forward(hidden), states[-1])


def test_embed_is_the_table_row(pair: Pair) -> None:
    ids = pair.ids(5, 64)
    table = reference.embeddings(pair.theirs).detach().numpy()
    hidden = pair.ours.embed(Ids(ids))
    assert (hidden.space, hidden.dtype, hidden.shape) == ("input", "float32", (64, table.shape[1]))
    np.testing.assert_array_equal(np.asarray(hidden), table[ids])


@pytest.mark.parametrize("length", [3, 150, 400])
def test_every_hidden_layer(pair: Pair, length: int) -> None:
    ids = pair.ids(length + 2, length)
    _, states = reference.forward(pair.theirs, ids)
    layers = pair.ours.config.layers
    assert len(states) == layers + 1
    for layer in range(layers):
        hidden = pair.ours.encode(Ids(ids), layer=layer)
        assert (hidden.layer, hidden.normed, hidden.space) == (layer, False, "layer")
        close(hidden, states[layer])
    close(pair.ours.encode(Ids(ids), layer=layers, normed=False), reference.before_norm(pair.theirs, ids))
    final = pair.ours.encode(Ids(ids))
    assert (final.layer, final.normed) == (layers, True)
    close(final, states[-1])


@pytest.mark.parametrize("arch", ["qwen2", "qwen3", "llama"])
def test_rich_models_stay_beside_float64(arch: str, tmp_path) -> None:
    """Of stronger weights than the other models here: on these, float32 itself is 1e-4 from the truth and more, so the
    reference computes in float64, and we may be no further from it than 1e-4 or than transformers' own float32 is."""
    pair = make_pair(arch, tmp_path, seed=1, tied=arch != "qwen3", gain=1.2, spread=2.0)
    ids = pair.ids(700, 700)
    single, _ = reference.forward(pair.theirs, ids)
    exact = reference.forward_exact(pair.theirs, ids)
    assert exact.std() >= 2
    apart = float(np.abs(np.asarray(pair.ours.logits(Ids(ids)), np.float64) - exact).max())
    theirs = float(np.abs(single.astype(np.float64) - exact).max())
    assert apart <= max(1e-4, theirs), f"we are {apart:.2e} from float64, transformers' float32 {theirs:.2e}"


def test_pooling(pair: Pair) -> None:
    ids = pair.ids(9, 40)
    _, states = reference.forward(pair.theirs, ids)
    close(pair.ours.encode(Ids(ids), pool="last"), states[-1][-1:])
    close(pair.ours.encode(Ids(ids), pool="mean"), states[-1].mean(axis=0, keepdims=True))


def test_readout_names_the_likeliest_tokens(pair: Pair) -> None:
    ids = pair.ids(10, 30)
    expected, _ = reference.forward(pair.theirs, ids)
    read = pair.ours.readout(pair.ours.encode(Ids(ids)), top_k=3)
    probabilities = np.exp(reference.log_softmax(expected))
    order = np.argsort(-probabilities, axis=1)[:, :3]
    np.testing.assert_array_equal(read.ids, order)
    close(read.probabilities, np.take_along_axis(probabilities, order, axis=1))
    assert [len(row) for row in read.tokens] == [3] * 30


def test_a_mixed_prompt_is_its_segments_in_order(pair: Pair) -> None:
    """Text, ids and vectors in one prompt give the logits of the concatenated embeddings."""
    text, ids = "Natalia sold clips", pair.ids(11, 6)
    vectors = np.random.default_rng(12).standard_normal((5, pair.ours.config.width)).astype(np.float32) * 0.2
    table = reference.embeddings(pair.theirs).detach().numpy()
    whole = np.concatenate([table[pair.ours.tokenize(text)], table[ids], vectors, table[ids[:2]]])
    expected, _ = reference.forward(pair.theirs, vectors=whole)
    prompt = Prompt(text, Ids(ids), densecore.Hidden.wrap(vectors, like=pair.ours), Ids(ids[:2]))
    close(pair.ours.logits(prompt), expected)


@pytest.mark.parametrize("arch", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize(
    "options",
    [{"tied": False}, {"tied": True, "sharded": True}, {"head_dim": 32, "kv_heads": 5, "heads": 5, "width": 160}],
    ids=["untied", "sharded", "no-grouping"],
)
def test_other_shapes(arch: str, options: dict, tmp_path) -> None:
    made = make_pair(arch, tmp_path, seed=7, **options)
    ids = made.ids(1, 90)
    close(made.ours.logits(Ids(ids)), reference.forward(made.theirs, ids)[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_folders(dtype: str, tmp_path) -> None:
    """Sixteen-bit weights: the reference widens the same numbers to float32; activations may round once more."""
    made = make_pair("qwen2", tmp_path, seed=8, dtype=dtype)
    ids = made.ids(1, 200)
    expected, _ = reference.forward(made.theirs, ids)
    assert reference.divergence(expected, made.ours.logits(Ids(ids))).mean() < 1e-3
