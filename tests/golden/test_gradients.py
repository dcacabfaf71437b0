"""Gradients by input vectors: against torch's autograd, and against finite differences of our own loss."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densecore
from tests import tiny
from tests.golden import reference
from tests.golden.fixtures import Pair

RELATIVE = 1e-4  # of the gradient's length, in float32


def draw(seed: int, rows: int, width: int, deviation: float = 0.3) -> np.ndarray:
    return (deviation * np.random.default_rng(seed).standard_normal((rows, width))).astype(np.float32)


def near(ours: Any, theirs: np.ndarray, relative: float = RELATIVE) -> None:
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    length = float(np.linalg.norm(theirs))
    assert length > 1e-3, "a gradient of nothing proves nothing"
    apart = float(np.linalg.norm(ours.astype(np.float64) - theirs)) / length
    assert apart <= relative, f"{apart:.2e} of its length apart"


def fresh() -> int:
    """A seed nobody tried before; pytest shows it where a test fails."""
    seed = int(np.random.default_rng().integers(1 << 30))
    print(f"seed {seed}")
    return seed


@pytest.mark.parametrize("shape", [(0, 1, 1), (0, 5, 3), (7, 3, 2), (70, 9, 5), (3, 130, 2)])
def test_equals_torch(pair: Pair, shape: tuple[int, int, int]) -> None:
    seed, (before, rows, count) = fresh(), shape
    prefix, targets = pair.ids(seed, before), pair.ids(seed + 1, count)
    vectors = draw(seed, rows, pair.ours.config.width)
    loss, grad = reference.gradient(pair.theirs, prefix, vectors, targets)
    found = pair.ours.loss_and_grad(densecore.Ids(prefix) if prefix else None, vectors, targets)
    assert found.loss == pytest.approx(loss, rel=1e-5), f"seed {seed}"
    near(found.grad, grad)
    assert found.loss == pytest.approx(-found.logprobs.astype(np.float64).mean(), rel=1e-5)
    assert found.usage.prompt_vectors == rows
    assert found.usage.positions + found.usage.cached_positions == before + rows + count - 1


def test_weights_and_a_ragged_batch_with_prefixes_of_its_own(pair: Pair) -> None:
    seed = fresh()
    random = np.random.default_rng(seed)
    prefixes = [pair.ids(seed + i, n) for i, n in enumerate([5, 66, 1])]
    vectors = [draw(seed + i, n, pair.ours.config.width) for i, n in enumerate([2, 1, 31])]
    targets = [pair.ids(seed + 9 + i, n) for i, n in enumerate([1, 20, 3])]
    signs = [random.choice([-1.0, 1.0], len(t)) for t in targets]
    weights = [(sign * random.uniform(0.3, 1.5, len(sign))).astype(np.float32) for sign in signs]
    found = pair.ours.loss_and_grad(
        [densecore.Prompt(densecore.Ids(p)) for p in prefixes], vectors, targets, weights=weights
    )
    for one, *given in zip(found, prefixes, vectors, targets, weights, strict=True):
        loss, grad = reference.gradient(pair.theirs, *given)
        assert one.loss == pytest.approx(loss, rel=1e-4, abs=1e-4), f"seed {seed}"
        near(one.grad, grad)


def test_chunks_of_rows_cut_sequences(pair: Pair) -> None:
    """More rows than one pass of a layer takes: sequences are cut where a chunk ends, and nothing shows it."""
    seed, width = fresh(), pair.ours.config.width
    vectors = [draw(seed + i, n, width) for i, n in enumerate([300, 400, 3, 700])]
    targets = [pair.ids(seed + i, n) for i, n in enumerate([5, 130, 1, 2])]
    found = pair.ours.loss_and_grad(None, vectors, targets)
    again = pair.ours.loss_and_grad(None, vectors, targets, memory=0)
    for one, same, *given in zip(found, again, vectors, targets, strict=True):
        loss, grad = reference.gradient(pair.theirs, [], *given)
        assert one.loss == pytest.approx(loss, rel=1e-5)
        near(one.grad, grad)
        assert (same.grad == one.grad).all()
    alone = pair.ours.loss_and_grad(None, vectors[1], targets[1])
    assert (alone.grad == found[1].grad).all()


def test_a_context_as_prefix_of_a_batch(pair: Pair) -> None:
    """Read once, shared by sequences that part from it in the middle of a block."""
    seed, width = fresh(), pair.ours.config.width
    prefix = pair.ids(seed, 70)
    context = pair.ours.prefill(densecore.Ids(prefix))
    vectors = [draw(seed + i, n, width) for i, n in enumerate([3, 60])]
    targets = [pair.ids(seed + i, 4) for i in range(2)]
    found = pair.ours.loss_and_grad(context, vectors, targets, kv_grad=True)
    for one, *given in zip(found, vectors, targets, strict=True):
        loss, grad = reference.gradient(pair.theirs, prefix, *given)
        assert one.loss == pytest.approx(loss, rel=1e-5)
        near(one.grad, grad)
        assert one.usage.cached_positions == 70
        assert one.kv_grad[0][0].shape[0] == 70
    assert len(context) == 70
    vjp = pair.ours.vjp(vectors[0], prefix=context, layer=3)
    by_states = draw(seed + 5, 3, width, 1.0)
    _, grad = reference.pullback(pair.theirs, prefix, vectors[0], 3, False, by_states)
    near(vjp.pull(by_states), grad)


def test_a_shared_context_needs_its_room_once(small: Pair) -> None:
    block = 64 * 2 * 4 * small.ours.config.kv_heads * small.ours.config.head_dim * small.ours.config.layers
    tight = densecore.Model.load(small.folder, kv="f32", cache_bytes=10 * block, prefix_bytes=0)
    context = tight.prefill(densecore.Ids([5] * 64 * 6))
    vectors = draw(1, 3, tight.config.width)
    found = tight.loss_and_grad(context, [vectors] * 3, [[7, 8]] * 3)
    assert len(found) == 3


def test_callers_wait_for_the_room_of_a_gradient(small: Pair) -> None:
    """Two threads, room for one of them: the second waits until the first has gone all the way back."""
    block = 64 * 2 * 4 * small.ours.config.kv_heads * small.ours.config.head_dim * small.ours.config.layers
    tight = densecore.Model.load(small.folder, kv="f32", cache_bytes=32 * block, prefix_bytes=0)
    vectors, found = draw(1, 1900, tight.config.width), []
    work = lambda: found.append(tight.loss_and_grad(None, vectors, [7, 8], memory=0).loss)  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(found) == 3
    assert len(set(found)) == 1


def test_a_cancelled_gradient_leaves_the_model_usable(small: Pair) -> None:
    cancel = densecore.Cancel()
    cancel.cancel()
    vectors, targets = draw(1, 8, small.ours.config.width), [7, 8]
    for call in (lambda: small.ours.loss_and_grad(None, vectors, targets, cancel=cancel),
                 lambda: small.ours.vjp(vectors).pull(vectors, cancel=cancel)):  # fmt: skip
        with pytest.raises(densecore.errors.GenerationCancelled):
            call()
    assert small.ours.loss_and_grad(None, vectors, targets).grad is not None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weights(dtype: str, tmp_path: Path) -> None:
    """Inputs are not rounded, so only keys and values are; with these in float32 the gradient is exact."""
    folder = tiny.make_tiny("qwen3", tmp_path / dtype, seed=5, dtype=dtype)
    theirs, seed = reference.load(folder), fresh()
    random = np.random.default_rng(seed)
    exact, served = densecore.Model.load(folder, kv="f32"), densecore.Model.load(folder, kv="f16")
    vectors, targets = draw(seed, 9, exact.config.width), random.integers(0, tiny.VOCAB, 5).tolist()
    _, grad = reference.gradient(theirs, [], vectors, targets)
    near(exact.loss_and_grad(None, vectors, targets).grad, grad)
    near(served.loss_and_grad(None, vectors, targets).grad, grad, 2e-2)


def test_no_budget_and_all_budget_give_the_same(pair: Pair) -> None:
    vectors, targets = draw(1, 12, pair.ours.config.width), pair.ids(2, 6)
    kept, again = (pair.ours.loss_and_grad(None, vectors, targets, memory=m) for m in (1 << 30, 0))
    assert kept.loss == again.loss
    assert (kept.grad == again.grad).all()
    alone = pair.ours.loss_and_grad(None, vectors, targets, grad=False)
    assert (alone.loss, alone.grad) == (kept.loss, None)
    batch = pair.ours.loss_and_grad(None, [draw(3, 40, vectors.shape[1]), vectors], [pair.ids(4, 2), targets])
    assert (batch[1].grad == kept.grad).all(), "company changed the gradient"


@pytest.mark.parametrize(("layer", "normed"), [(0, False), (1, False), (3, True), (4, False), (None, None)])
def test_states_of_any_layer(pair: Pair, layer: int | None, normed: bool | None) -> None:
    seed = fresh()
    prefix, vectors = pair.ids(seed, 9), draw(seed, 11, pair.ours.config.width)
    by_states = draw(seed + 1, 11, pair.ours.config.width, 1.0)
    vjp = pair.ours.vjp(vectors, prefix=densecore.Ids(prefix), layer=layer, normed=normed)
    depth, last = (4, True) if layer is None else (layer, bool(normed))
    states, grad = reference.pullback(pair.theirs, prefix, vectors, depth, last, by_states)
    assert vjp.states.layer == depth
    assert vjp.states.normed == last
    near(vjp.states, states)
    near(vjp.pull(by_states), grad)
    near(vjp.pull(2 * by_states), 2 * grad)  # it can be gone back again


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K", "Q8_0", "Q5_0"])
def test_quantised_weights(kind: str, tmp_path: Path) -> None:
    """Exact: torch's gradient of the dequantised weights. Fast: close to it, its loss closer than the score of serving."""
    path = tiny.make_tiny_gguf("qwen2", tmp_path / "tiny.gguf", kind, seed=3)
    theirs, seed = reference.model_from_gguf(path), fresh()
    exact, fast = densecore.Model.load(path, exact=True), densecore.Model.load(path)
    assert (exact.kv, fast.kv, exact.fingerprint) == ("f32", "f16", fast.fingerprint)
    random = np.random.default_rng(seed)
    ids, targets = random.integers(0, tiny.VOCAB, 20).tolist(), random.integers(0, tiny.VOCAB, 6).tolist()
    vectors = np.asarray(exact.embed(densecore.Ids(ids)))
    loss, grad = reference.gradient(theirs, [], vectors, targets)
    found = exact.loss_and_grad(None, vectors, targets)
    assert found.loss == pytest.approx(loss, rel=1e-5), f"seed {seed}"
    near(found.grad, grad)
    found = fast.loss_and_grad(None, vectors, targets)
    assert found.loss == pytest.approx(loss, rel=1e-3), f"seed {seed}"
    near(found.grad, grad, 0.02)
    assert found.loss == pytest.approx(-fast.score(densecore.Ids(ids), targets).total / 6, rel=0.05)
    for memory in (0, 1 << 30):  # kept activations are bf16 here
        near(fast.loss_and_grad(None, vectors, targets, memory=memory).grad, found.grad, 0.01)


def agrees(f: Callable[[float], float], slope: float, gradient: float, direction: float, seed: int) -> None:
    """Central differences, with the error of a step squared taken out by a second one of half the width."""
    found = []
    for width in (1e-2, 4e-3):
        wide, narrow = ((f(step) - f(-step)) / (2 * step) for step in (width / direction, width / direction / 2))
        found += [narrow, (4 * narrow - wide) / 3]
    apart = min(abs(one - slope) for one in found)
    assert apart <= 1e-3 * gradient * direction, f"seed {seed}: {apart / gradient / direction:.1e}"


def test_finite_differences(pair: Pair) -> None:
    """Every option at once: prefix, ragged batch, weights."""
    seed = fresh()
    width = pair.ours.config.width
    prefixes = [densecore.Prompt(densecore.Ids(pair.ids(seed + i, n))) for i, n in enumerate([3, 65])]
    vectors = [draw(seed + i, n, width) for i, n in enumerate([4, 9])]
    targets = [pair.ids(seed + 7 + i, n) for i, n in enumerate([6, 2])]
    weights = [np.abs(draw(seed + 5, 1, len(t), 1.0))[0] for t in targets]

    def losses(moved: list[np.ndarray]) -> float:
        return sum(one.loss for one in pair.ours.loss_and_grad(prefixes, moved, targets, weights=weights, grad=False))

    found = pair.ours.loss_and_grad(prefixes, vectors, targets, weights=weights)
    for attempt in range(4):
        # Random directions, and at last the gradient's own, which shows a small error best.
        along = [draw(seed + 20 + attempt + i, len(v), width, 1.0) for i, v in enumerate(vectors)]
        if attempt == 3:
            along = [
                one.grad / np.linalg.norm(one.grad) * np.linalg.norm(u) for one, u in zip(found, along, strict=True)
            ]
        slope = sum(float((one.grad.astype(np.float64) * u).sum()) for one, u in zip(found, along, strict=True))
        length = float(np.sqrt(sum((one.grad.astype(np.float64) ** 2).sum() for one in found)))
        direction = float(np.sqrt(sum((u.astype(np.float64) ** 2).sum() for u in along)))
        agrees(
            lambda step: losses([v + step * u for v, u in zip(vectors, along, strict=True)]),
            slope,
            length,
            direction,
            seed,
        )


@pytest.mark.parametrize("layer", [1, 2, 4])
def test_finite_differences_of_states(pair: Pair, layer: int) -> None:
    seed = fresh()
    width = pair.ours.config.width
    prefix, vectors = densecore.Ids(pair.ids(seed, 7)), draw(seed, 10, width)
    by_states = draw(seed + 1, 10, width, 1.0).astype(np.float64)
    vjp = pair.ours.vjp(vectors, prefix=prefix, layer=layer)
    grad = vjp.pull(by_states.astype(np.float32)).astype(np.float64)
    for attempt in range(3):
        along = draw(seed + 2 + attempt, 10, width, 1.0)
        if attempt == 2:
            along = (grad / np.linalg.norm(grad) * np.linalg.norm(along)).astype(np.float32)

        def f(step: float, along: np.ndarray = along) -> float:
            moved = pair.ours.vjp((vectors + step * along).astype(np.float32), prefix=prefix, layer=layer)
            return float((np.asarray(moved.states).astype(np.float64) * by_states).sum())

        agrees(f, float((grad * along).sum()), float(np.linalg.norm(grad)), float(np.linalg.norm(along)), seed)


def test_gradients_into_the_prefix(pair: Pair) -> None:
    """Into keys and values: those of a context made of vectors, gone back by hand through what made them.

    A prefix of vectors followed by live vectors is one sequence. Its loss has a gradient by the first vectors that goes
    through their keys and values alone (the prefix has no targets of its own), layer by layer: what torch makes of our
    gradients by keys and values is compared with finite differences of our loss, and with torch's own gradient.
    """
    import torch

    seed = fresh()
    first, second = draw(seed, 5, pair.ours.config.width), draw(seed + 1, 3, pair.ours.config.width)
    targets = pair.ids(seed, 4)
    found = pair.ours.loss_and_grad(densecore.Prompt(first), second, targets, kv_grad=True)
    heads, size = pair.ours.config.kv_heads, pair.ours.config.head_dim
    assert len(found.kv_grad) == pair.ours.config.layers
    assert all(part.shape == (5, heads, size) for both in found.kv_grad for part in both)
    # The keys and values as torch makes them, with their own graphs.
    soft = torch.tensor(first, requires_grad=True)
    cache = pair.theirs(inputs_embeds=soft[None], use_cache=True).past_key_values
    total = torch.zeros(())
    for layer, (keys, values) in zip(cache.layers, found.kv_grad, strict=True):
        total = total + (layer.keys[0].transpose(0, 1) * torch.tensor(keys)).sum()
        total = total + (layer.values[0].transpose(0, 1) * torch.tensor(values)).sum()
    (through_kv,) = torch.autograd.grad(total, soft)
    whole = pair.ours.loss_and_grad(None, np.concatenate([first, second]), targets)
    near(through_kv.numpy(), whole.grad[:5], 3e-4)

    def loss(step: float) -> float:
        moved = (first + step * along).astype(np.float32)
        return pair.ours.loss_and_grad(densecore.Prompt(moved), second, targets, grad=False).loss

    exact_slope = through_kv.numpy().astype(np.float64)
    for along in (
        draw(seed + 3, *first.shape, 1.0),
        (exact_slope / np.linalg.norm(exact_slope) * 18).astype(np.float32),
    ):
        length, direction = float(np.linalg.norm(exact_slope)), float(np.linalg.norm(along))
        agrees(loss, float((exact_slope * along).sum()), length, direction, seed)
    near(found.grad, whole.grad[5:])
    _, exact = reference.gradient(pair.theirs, [], np.concatenate([first, second]), targets)
    near(through_kv.numpy(), exact[:5], 3e-4)


def cut(model: Any, path: str) -> Callable[[], None]:
    """Stops gradients on one path through every layer of the reference; returns what undoes it."""
    import torch

    def detached(_: Any, args: Any, out: Any) -> Any:
        return out.detach()

    def without_identity(_: Any, args: Any, out: Any) -> Any:
        return out - args[0] + args[0].detach()

    hooks = []
    for layer in model.model.layers:
        part = {"q": layer.self_attn.q_proj, "k": layer.self_attn.k_proj, "v": layer.self_attn.v_proj,
                "mlp": layer.mlp, "residual": layer}[path]  # fmt: skip
        hooks.append(part.register_forward_hook(without_identity if path == "residual" else detached))
    assert isinstance(model, torch.nn.Module)
    return lambda: [hook.remove() for hook in hooks]  # type: ignore[func-returns-value]


@pytest.mark.parametrize("path", ["q", "k", "v", "mlp", "residual"])
def test_a_cut_path_would_be_seen(pair: Pair, path: str) -> None:
    """The comparison above is sharp: a gradient that lacks one path lies far outside its tolerance, ours does not."""
    seed = fresh()
    vectors, targets = draw(seed, 9, pair.ours.config.width), pair.ids(seed, 5)
    ours = pair.ours.loss_and_grad(None, vectors, targets).grad
    _, whole = reference.gradient(pair.theirs, [], vectors, targets)
    undo = cut(pair.theirs, path)
    try:
        _, lacking = reference.gradient(pair.theirs, [], vectors, targets)
    finally:
        undo()
    length = float(np.linalg.norm(whole))
    assert np.linalg.norm(lacking - ours) > 100 * RELATIVE * length, "the path carries nothing here"
    near(ours, whole)
