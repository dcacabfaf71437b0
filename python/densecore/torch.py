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
from densecore.arguments import flag
from densecore.errors import ArgumentError, MissingExtraError, StateError
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
    call = (targets if many else [targets], weights if many or weights is None else [weights], memory, cancel)
    found: torch.Tensor = _Loss.apply(model, prefix, call, _is_recorded(tensors), *tensors)
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
    call = (layer, normed, memory, cancel)
    found: tuple[torch.Tensor, ...] = _Forward.apply(model, prefix, call, _is_recorded(tensors), *tensors)
    return list(found) if many else found[0]


def _is_recorded(tensors: list[torch.Tensor]) -> bool:
    """Whether somebody may go back: asked here, for inside a function of torch's gradients always look switched off."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


class _Loss(torch.autograd.Function):  # type: ignore[misc]
    """The gradient is computed with the loss: both need the same pass, and nothing else has to be kept."""

    @staticmethod
    def forward(ctx: Any, model: Model, prefix: Any, call: Any, grad: bool, *vectors: torch.Tensor) -> torch.Tensor:
        targets, weights, memory, cancel = call
        options = gradient.options(memory, False, False)
        borrowed = [_borrow(v, model) for v in vectors]
        found = gradient.raw_losses(model, prefix, borrowed, targets, weights, grad, options, cancel)
        if grad:
            ctx.like = [(v.device, v.dtype) for v in vectors]
            ctx.grads = [torch.from_dlpack(one[2]) for one in found]
        return torch.tensor([one[0] for one in found], dtype=torch.float32)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, by_loss: torch.Tensor) -> tuple[Any, ...]:
        grads = zip(ctx.grads, ctx.like, ctx.needs_input_grad[4:], strict=True)
        scaled = [
            (grad * by_loss[i].cpu()).to(*like) if wanted else None for i, (grad, like, wanted) in enumerate(grads)
        ]
        return (None, None, None, None, *scaled)


class _Forward(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, model: Model, prefix: Any, call: Any, grad: bool, *vectors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        layer, normed, memory, cancel = call
        borrowed = [_borrow(v, model) for v in vectors]
        vjp = gradient.vjp(model, borrowed, prefix, layer, normed, False, memory if grad else 0, False, cancel)
        if grad:
            ctx.like = [(v.device, v.dtype) for v in vectors]
            ctx.recording, ctx.model, ctx.cancel = vjp._core, model, cancel
        return tuple(torch.from_dlpack(h) for h in vjp.states)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *by_states: torch.Tensor) -> tuple[Any, ...]:
        if ctx.recording is None:
            raise StateError("these states were gone back from already: pass retain_graph=True, or call forward again")
        gradients = [_borrow(g, ctx.model)._core for g in by_states]
        pulled = ctx.recording.pull(gradients, flag(ctx.cancel))
        if not _is_kept():
            ctx.recording = None  # its memory is needed by the next forward, which may come before this graph is gone
        grads = zip(pulled, ctx.like, ctx.needs_input_grad[4:], strict=True)
        return (None, None, None, None, *(torch.from_dlpack(g).to(*like) if w else None for (g, _), like, w in grads))


def _is_kept() -> bool:
    """Whether the backward pass that runs keeps its graph; yes where torch does not say."""
    asked = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return asked is None or bool(asked())


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
