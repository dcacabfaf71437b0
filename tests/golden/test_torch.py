"""Autograd over the engine: what torch makes of it equals what torch makes of its own model."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import densecore
from densecore import errors
from tests.golden import reference
from tests.golden.fixtures import Pair
from tests.golden.test_gradients import draw, fresh, near

torch = pytest.importorskip("torch", reason="the extra `torch`")
dense = pytest.importorskip("densecore.torch", reason="the extra `torch`")


def test_a_loss_in_a_larger_graph(pair: Pair) -> None:
    """An edge before the vectors, a second loss behind: the chain rule is torch's, our part is one link."""
    seed = fresh()
    width = pair.ours.config.width
    source, target = torch.tensor(draw(seed, 5, 12, 1.0)), pair.ids(seed, 4)
    edge = torch.nn.Linear(12, width, bias=False)
    with torch.no_grad():
        edge.weight.copy_(torch.tensor(draw(seed + 1, width, 12)))
    vectors = edge(source)
    (2 * dense.loss(pair.ours, densecore.Ids([1, 2, 3]), vectors, target) + vectors.square().sum()).backward()
    _, grad = reference.gradient(pair.theirs, [1, 2, 3], vectors.detach().numpy(), target)
    near(edge.weight.grad, (2 * grad + 2 * vectors.detach().numpy()).T @ source.numpy())


def test_lists_weights_and_accumulation(pair: Pair) -> None:
    seed = fresh()
    soft = torch.tensor(draw(seed, 6, pair.ours.config.width), requires_grad=True)
    targets = [pair.ids(seed, 3), pair.ids(seed + 1, 5)]
    weights = [[1.0, 0.0, 0.5], [0.2] * 5]
    values = dense.loss(pair.ours, None, [soft, soft[2:]], targets, weights=weights)
    assert values.shape == (2,)
    values.sum().backward()
    together = soft.grad.clone()
    soft.grad = None
    dense.loss(pair.ours, None, soft, targets[0], weights=weights[0]).backward()
    dense.loss(pair.ours, None, soft[2:], targets[1], weights=weights[1]).backward()
    near(soft.grad, together.numpy())


def test_no_grad_computes_no_gradient(small: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    raw = dense.gradient.raw_losses
    monkeypatch.setattr(dense.gradient, "raw_losses", lambda *given: asked.append(given[5]) or raw(*given))
    soft = torch.tensor(draw(3, 4, small.ours.config.width), requires_grad=True)
    with torch.no_grad():
        dense.loss(small.ours, None, soft, [1])
    dense.loss(small.ours, None, soft.detach(), [1])
    dense.loss(small.ours, None, soft, [1])
    assert asked == [False, False, True]


def test_states_are_gone_back_from_once_unless_kept(small: Pair) -> None:
    soft = torch.tensor(draw(3, 4, small.ours.config.width), requires_grad=True)
    total = dense.forward(small.ours, soft, layer=2).sum()
    total.backward(retain_graph=True)
    first = soft.grad.clone()
    total.backward()
    assert torch.equal(soft.grad, 2 * first)
    with pytest.raises((errors.StateError, RuntimeError)):
        total.backward()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_kinds_and_no_grad(pair: Pair, kind: torch.dtype) -> None:
    soft = torch.tensor(draw(3, 4, pair.ours.config.width)).to(kind).requires_grad_()
    target = pair.ids(5, 3)
    value = dense.loss(pair.ours, None, soft, target)
    value.backward()
    assert soft.grad.dtype == kind
    _, grad = reference.gradient(pair.theirs, [], soft.detach().float().numpy(), target)
    near(soft.grad.float(), grad, 1e-4 if kind == torch.float32 else 1e-2)
    with torch.no_grad():
        alone = dense.loss(pair.ours, None, soft, target)
    assert not alone.requires_grad
    assert alone.item() == value.item()


def test_states(pair: Pair) -> None:
    seed = fresh()
    soft = torch.tensor(draw(seed, 7, pair.ours.config.width), requires_grad=True)
    by_states = torch.tensor(draw(seed + 1, 7, pair.ours.config.width, 1.0))
    states = dense.forward(pair.ours, soft, prefix=densecore.Ids([4, 5]), layer=2)
    (states * by_states).sum().backward()
    expected, grad = reference.pullback(pair.theirs, [4, 5], soft.detach().numpy(), 2, False, by_states.numpy())
    near(states.detach(), expected)
    near(soft.grad, grad)
    soft.grad = None
    both = dense.forward(pair.ours, [soft, soft[:3]], layer=2)
    (both[0].sum() + both[1].sum()).backward()
    ones = np.ones_like(expected)
    _, whole = reference.pullback(pair.theirs, [], soft.detach().numpy(), 2, False, ones)
    _, part = reference.pullback(pair.theirs, [], soft.detach().numpy()[:3], 2, False, ones[:3])
    whole[:3] += part
    near(soft.grad, whole)
    with torch.no_grad():
        assert not dense.forward(pair.ours, soft).requires_grad


def test_an_optimiser_lowers_the_loss(small: Pair) -> None:
    soft = torch.tensor(draw(8, 4, small.ours.config.width), requires_grad=True)
    optimizer = torch.optim.Adam([soft], lr=0.05)
    target, first = small.ids(9, 3), None
    for _ in range(30):
        optimizer.zero_grad()
        value = dense.loss(small.ours, None, soft, target)
        value.backward()
        optimizer.step()
        first = first or value.item()
    assert value.item() < 0.5 * first


def test_threads(small: Pair) -> None:
    """Each thread has its own vectors; all get what they get alone."""
    inputs = [(draw(i, 3 + i, small.ours.config.width), small.ids(i, 2 + i)) for i in range(6)]
    alone = [small.ours.loss_and_grad(None, *one).grad for one in inputs]
    found: list[np.ndarray | None] = [None] * len(inputs)

    def work(i: int) -> None:
        soft = torch.tensor(inputs[i][0], requires_grad=True)
        dense.loss(small.ours, None, soft, inputs[i][1]).backward()
        found[i] = soft.grad.numpy()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for one, expected in zip(found, alone, strict=True):
        assert np.array_equal(one, expected)


def test_wrong_tensors_are_refused(small: Pair) -> None:
    width = small.ours.config.width
    with pytest.raises(errors.ArgumentError, match="float64"):
        dense.loss(small.ours, None, torch.zeros(2, width, dtype=torch.float64), [1])
    with pytest.raises(errors.ArgumentError, match="list"):
        dense.loss(small.ours, None, np.zeros((2, width), np.float32), [1])
    with pytest.raises(errors.WidthError):
        dense.loss(small.ours, None, torch.zeros(2, width + 1), [1])
    with pytest.raises(errors.NonFiniteError):
        dense.loss(small.ours, None, torch.full((2, width), float("nan")), [1])


def test_without_torch_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "try:\n import densecore.torch\n"
        "except ImportError as error:\n print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "MissingExtraError" in told
    assert "densecore[torch]" in told
