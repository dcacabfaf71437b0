"""Gradients by input vectors, through a model that stays frozen. With torch, see :mod:`densecore.torch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from densecore import results
from densecore.arguments import Cancel, flag, number, optional, truth
from densecore.context import Context
from densecore.errors import ArgumentError
from densecore.hidden import Hidden
from densecore.prompt import Ids, Prompt, read

if TYPE_CHECKING:
    import numpy.typing as npt

    from densecore import _core, wire
    from densecore.model import Model
    from densecore.results import Usage

    KvGrad = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class Loss:
    """How unlikely the targets are after the vectors, and the gradient of that by the vectors."""

    loss: float
    """The weighted sum of the targets' negative log-probabilities."""
    logprobs: npt.NDArray[np.float32]
    """One a target token."""
    grad: npt.NDArray[np.float32] | None
    """By the vectors, ``(T, d)``; None if it was not asked for."""
    kv_grad: KvGrad | None = field(repr=False)
    """By the prefix's keys and values, a pair a layer, each ``(positions, kv_heads, head_dim)``; None if not asked for."""
    usage: Usage


class Vjp:
    """States of a layer, and the way back from gradients by them to gradients by the vectors they came from.

    >>> import densecore, numpy as np
    >>> model = densecore.Model.load("smollm2-135m-instruct")
    >>> vjp = model.vjp(model.embed("The capital of France is"), layer=3)
    >>> vjp.states.shape
    (5, 576)
    >>> vjp.pull(np.ones((5, 576), np.float32)).shape
    (5, 576)
    """

    __slots__ = ("_core", "_kv", "_many", "_model", "states")

    states: Any
    """A :class:`Hidden`, or a list of them for a list of vectors."""

    def __init__(self, core: _core.Recording, model: Model, many: bool, kv: bool) -> None:
        self._core, self._model, self._many, self._kv = core, model, many, kv
        states = [Hidden(h) for h in core.states()]
        self.states = states if many else states[0]

    def pull(self, gradient: Any, *, cancel: Cancel | None = None) -> Any:
        """The gradient by the vectors, given that by the states; float32 ``(T, d)``.

        Any number of times. For a list of vectors it takes and gives a list; with ``kv_grad`` each entry is a pair, whose
        second is that of :attr:`Loss.kv_grad`.
        """
        if self._many and not isinstance(gradient, (list, tuple)):
            raise ArgumentError(
                f"gradient = {type(gradient).__name__}: give a list, one gradient for each of the states"
            )
        given = list(gradient) if self._many else [gradient]
        pulled = self._core.pull([self._model._vectors(g)._core for g in given], flag(cancel))
        found = [(np.asarray(grad), kv_grad(kv, self._model)) if self._kv else np.asarray(grad) for grad, kv in pulled]
        return found if self._many else found[0]


def loss_and_grad(
    model: Model,
    prefix: Any,
    vectors: Any,
    targets: Any,
    weights: Any,
    grad: bool,
    kv: bool,
    memory: int | None,
    raw: bool,
    cancel: Cancel | None,
) -> Loss | list[Loss]:
    """See :meth:`densecore.Model.loss_and_grad`."""
    truth("grad", grad)
    if truth("kv_grad", kv) and not grad:
        raise ArgumentError("kv_grad = True: it needs grad=True, which computes it")
    found = raw_losses(model, prefix, vectors, targets, weights, grad, options(memory, kv, raw), cancel)
    losses = [
        Loss(
            loss,
            np.asarray(logprobs, dtype=np.float32),
            None if by_vectors is None else np.asarray(by_vectors),
            kv_grad(by_kv, model) if kv and grad else None,
            results.usage(counts),
        )
        for loss, logprobs, by_vectors, by_kv, counts in found
    ]
    return losses if isinstance(vectors, (list, tuple)) else losses[0]


def raw_losses(
    model: Model,
    prefix: Any,
    vectors: Any,
    targets: Any,
    weights: Any,
    grad: bool,
    options: wire.GradOptions,
    cancel: Cancel | None,
) -> list[wire.Loss]:
    """Losses as the engine gives them, for one sequence or a list."""
    batch, many = _listed(vectors, model)
    count = len(batch)
    wanted = [model._target(t) for t in _each("targets", targets, count, many)]
    weighted = [None] * count if weights is None else [_numbers(w) for w in _each("weights", weights, count, many)]
    items = zip(prefixes(prefix, count, model), batch, wanted, weighted, strict=True)
    return model._core.loss_and_grad(list(items), grad, options, flag(cancel))


def vjp(
    model: Model,
    vectors: Any,
    prefix: Any,
    layer: int | None,
    normed: bool | None,
    kv: bool,
    memory: int | None,
    raw: bool,
    cancel: Cancel | None,
) -> Vjp:
    """See :meth:`densecore.Model.vjp`."""
    batch, many = _listed(vectors, model)
    if normed is not None:
        truth("normed", normed)
    items = list(zip(prefixes(prefix, len(batch), model), batch, strict=True))
    core = model._core.record(
        items, optional("layer", layer, 0, model.config.layers), normed, options(memory, kv, raw), flag(cancel)
    )
    return Vjp(core, model, many, kv)


def options(memory: int | None, kv: bool, raw: bool) -> wire.GradOptions:
    """The engine's options of a gradient."""
    return optional("memory", memory), truth("kv_grad", kv), truth("raw", raw)


def prefixes(prefix: Any, count: int, model: Model) -> list[wire.Prefix]:
    """The engine's form of one prefix for all of ``count`` sequences, or of a list with one for each."""
    if prefix is None or (isinstance(prefix, str) and not prefix):
        return [None] * count
    if isinstance(prefix, Context):
        return [prefix._core] * count
    found: list[wire.Prefix]
    if isinstance(prefix, list) and any(p is None or isinstance(p, Context) for p in prefix):
        found = [prefixes(p, 1, model)[0] for p in prefix]
    else:
        if count > 1 and isinstance(prefix, list) and len(prefix) == count and all(map(_could_be_one, prefix)):
            raise ArgumentError(
                f"prefix = {prefix!r:.80}: it could be one prompt or {count}; write Prompt(...) around each, or around all"
            )
        rows, many = read(prefix, model)
        found = [*rows] if many else [*rows] * count
    if len(found) != count:
        raise ArgumentError(
            f"prefix = {len(found)} prefixes: give one for all, or one for each of the {count} sequences"
        )
    return found


def kv_grad(pairs: list[tuple[_core.Hidden, _core.Hidden]], model: Model) -> KvGrad:
    """Gradients by keys and values as arrays of heads."""
    shape = (-1, model.config.kv_heads, model.config.head_dim)
    return [(np.asarray(keys).reshape(shape), np.asarray(values).reshape(shape)) for keys, values in pairs]


def _listed(vectors: Any, model: Model) -> tuple[list[_core.Hidden], bool]:
    """The engine's side of one array or a list of them, and whether it was a list."""
    many = isinstance(vectors, (list, tuple))
    batch = list(vectors) if many else [vectors]
    if not batch:
        raise ArgumentError("vectors = []: the list is empty; give at least one array (T, d)")
    return [model._vectors(v)._core for v in batch], many


def _could_be_one(prefix: Any) -> bool:
    """Whether a segment might be meant as a whole prompt."""
    return isinstance(prefix, Ids) or (
        not isinstance(prefix, (str, list, tuple, Prompt, dict)) and hasattr(prefix, "shape")
    )


def _each(name: str, value: Any, count: int, many: bool) -> list[Any]:
    if not many:
        return [value]
    if isinstance(value, str) or not isinstance(value, (list, tuple)) or len(value) != count:
        size = len(value) if isinstance(value, Sequence) else type(value).__name__
        raise ArgumentError(f"{name} = {size}: give a list, one for each of the {count} sequences")
    return list(value)


def _numbers(weights: Any) -> list[float]:
    try:
        weights = list(weights)
    except TypeError:
        raise ArgumentError(f"weights = {weights!r:.80}: give one number for each target token") from None
    return [number("weights", w) for w in weights]
