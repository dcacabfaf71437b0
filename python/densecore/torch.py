"""Gradients for torch: the engine's losses and states as autograd functions. Needs the extra ``torch``.

The language model itself never becomes a torch module: torch sees vectors go in, and a loss or states come out.

>>> import densecore, torch
>>> from densecore.torch import loss
>>> model = densecore.Model.load("smollm2-135m-instruct")
>>> soft = torch.zeros(4, model.config.width, requires_grad=True)
>>> optimizer = torch.optim.Adam([soft], lr=0.01)
>>> value = loss(model, None, soft, " Paris")
>>> value.backward()
>>> soft.grad.shape
torch.Size([4, 576])
>>> optimizer.step()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from densecore import gradient
from densecore.errors import ArgumentError, MissingExtraError
from densecore.hidden import Hidden

try:
    import torch
    from torch.autograd.function import once_differentiable
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingExtraError("densecore.torch needs torch; install it with: pip install 'densecore[torch]'") from error

if TYPE_CHECKING:
    from densecore.arguments import Cancel
    from densecore.model import Model

__all__ = ["forward", "loss"]


def loss(
    model: Model,
    prefix: Any,
    vectors: torch.Tensor | list[torch.Tensor],
    targets: Any,
    *,
    weights: Any = None,
    memory: int | None = None,
    cancel: Cancel | None = None,
) -> torch.Tensor:
    """The loss of ``targets`` after ``prefix`` and ``vectors``, float32; see :meth:`densecore.Model.loss_and_grad`.

    A scalar, or for a list of vectors a tensor with one loss each. Under ``torch.no_grad()``, or if no vector requires a
    gradient, only the loss is computed.
    """
    tensors, many = _listed(vectors)
    options = gradient.options(memory, False, False)
    found: torch.Tensor = _Loss.apply(model, prefix, targets if many else [targets],
                                      weights if many or weights is None else [weights], options, cancel, *tensors)  # fmt: skip
    return found if many else found[0]


def forward(
    model: Model,
    vectors: torch.Tensor | list[torch.Tensor],
    *,
    prefix: Any = None,
    layer: int | None = None,
    normed: bool | None = None,
    memory: int | None = None,
    cancel: Cancel | None = None,
) -> Any:
    """Hidden states of vectors behind a prefix, a float32 tensor ``(T, d)`` or a list; see :meth:`densecore.Model.vjp`."""
    tensors, many = _listed(vectors)
    options = (layer, normed, memory, cancel)
    found: tuple[torch.Tensor, ...] = _Forward.apply(model, prefix, options, *tensors)
    return list(found) if many else found[0]


class _Loss(torch.autograd.Function):  # type: ignore[misc]
    """The gradient is computed with the loss: both need the same pass, and nothing else has to be kept."""

    @staticmethod
    def forward(ctx: Any, model: Model, prefix: Any, targets: Any, weights: Any, options: Any, cancel: Any,
                *vectors: torch.Tensor) -> torch.Tensor:  # fmt: skip
        grad = any(ctx.needs_input_grad)
        found = gradient.raw_losses(model, prefix, [_borrow(v, model) for v in vectors], targets, weights, grad, options,
                                    cancel)  # fmt: skip
        if grad:
            ctx.kinds = [v.dtype for v in vectors]
            ctx.grads = [torch.from_dlpack(one[2]) for one in found]
        return torch.tensor([one[0] for one in found], dtype=torch.float32)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, by_loss: torch.Tensor) -> tuple[Any, ...]:
        scaled = [
            (grad * by_loss[i]).to(kind) if wanted else None
            for i, (grad, kind, wanted) in enumerate(zip(ctx.grads, ctx.kinds, ctx.needs_input_grad[6:], strict=True))
        ]
        return (None,) * 6 + tuple(scaled)


class _Forward(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, model: Model, prefix: Any, options: Any, *vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        layer, normed, memory, cancel = options
        memory = memory if any(ctx.needs_input_grad) else 0
        vjp = gradient.vjp(
            model, [_borrow(v, model) for v in vectors], prefix, layer, normed, False, memory, False, cancel
        )
        if any(ctx.needs_input_grad):
            ctx.kinds, ctx.vjp, ctx.model = [v.dtype for v in vectors], vjp, model
        return tuple(torch.from_dlpack(h) for h in vjp.states)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *by_states: torch.Tensor) -> tuple[Any, ...]:
        pulled = ctx.vjp._core.pull([_borrow(g, ctx.model)._core for g in by_states], None)
        grads = [
            torch.from_dlpack(grad).to(kind) if wanted else None
            for (grad, _), kind, wanted in zip(pulled, ctx.kinds, ctx.needs_input_grad[3:], strict=True)
        ]
        return (None, None, None, *grads)


def _listed(vectors: Any) -> tuple[list[torch.Tensor], bool]:
    many = isinstance(vectors, (list, tuple))
    tensors = list(vectors) if many else [vectors]
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            raise ArgumentError(f"vectors = {type(tensor).__name__}: give a torch tensor (T, d), or a list of them")
        if tensor.dtype not in (torch.float32, torch.bfloat16):
            raise ArgumentError(f"vectors = a tensor of {tensor.dtype}: give torch.float32 or torch.bfloat16")
    if not tensors:
        raise ArgumentError("vectors = []: the list is empty; give at least one tensor (T, d)")
    return tensors, many


def _borrow(tensor: torch.Tensor, model: Model) -> Hidden:
    return Hidden.wrap(tensor.detach().cpu().contiguous(), model)
