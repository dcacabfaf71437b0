"""Kinds of arguments, for those who read and check types; nothing here runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict

from densecore.options import GenerateOptions

if TYPE_CHECKING:
    from densecore.arguments import Cancel
    from densecore.chat import Chat
    from densecore.context import Context
    from densecore.hidden import Hidden
    from densecore.prompt import Prompt


class Tensor(Protocol):
    """Anything with DLPack: a :class:`densecore.Hidden`, a NumPy array, a torch tensor."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        """Hand the memory out."""


One: TypeAlias = "str | Prompt | Chat | Tensor | tuple[Any, ...] | list[Any]"
"""One prompt: text, segments, vectors, ids, or messages; see :mod:`densecore.prompt`."""
Many: TypeAlias = "list[str] | list[Prompt] | list[Chat] | list[tuple[Any, ...]] | list[list[Any]]"
"""A list of prompts."""
Target: TypeAlias = "str | Sequence[int]"
"""What is scored: text or ids."""
Stop: TypeAlias = "int | str | Sequence[int | str]"
"""Tokens that end a chain of latent steps: ids, or texts of one token."""
Vectors: TypeAlias = "list[Hidden] | list[Tensor] | tuple[Tensor, ...]"
"""A list of vectors."""

Prefix: TypeAlias = "One | Context | None"
"""What comes before vectors whose gradient is wanted."""


class Call(TypedDict, total=False):
    """What every call that computes takes."""

    raw: bool
    """Let vectors of other spaces in."""
    cancel: Cancel | None


class Salted(Call, total=False):
    """What calls take that keep what they computed of their prompts, and find what others kept."""

    cache_salt: str | None
    """See :class:`densecore.GenerateOptions`."""


class Grad(Call, total=False):
    """See :meth:`densecore.Model.loss_and_grad`."""

    weights: Any
    grad: bool
    kv_grad: bool
    memory: int | None


class Encode(Call, total=False):
    """See :meth:`densecore.Model.encode`."""

    layer: int | None
    normed: bool | None
    pool: str | None


class Generate(Call, GenerateOptions, total=False):
    """See :meth:`densecore.Model.generate`."""


class Think(Salted, total=False):
    """See :meth:`densecore.Model.think`."""

    mode: str
    temperature: float
    top_k: int
    stop: Stop
    ignore_eos: bool
