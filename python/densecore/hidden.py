"""Vectors that know their model and space, in one memory with NumPy and torch."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from densecore import _core
from densecore.errors import ArgumentError, VectorError, WidthError

if TYPE_CHECKING:
    import numpy.typing as npt

    from densecore.kinds import Tensor
    from densecore.model import Model


class Hidden:
    """``(T, d)`` vectors of one space of one model.

    ``numpy.asarray(h)``, which is read-only, and ``torch.from_dlpack(h)``, which torch lets you write, view the same
    memory; :meth:`wrap` borrows an array or tensor the other way. A call reads vectors once, when it begins; what is
    written later changes them, and slices of them, and nothing that was computed.

    The space is ``"input"`` (token embeddings, what the first layer reads) or ``"layer"`` (the residual stream after
    :attr:`layer` layers, with or without the final norm).
    """

    __slots__ = ("_core",)

    def __init__(self, core: _core.Hidden) -> None:
        self._core = core

    @classmethod
    def wrap(
        cls,
        array: Tensor,
        like: Model | Hidden,
        space: str | None = None,
        *,
        layer: int | None = None,
        normed: bool = False,
        copy: bool | None = None,
    ) -> Hidden:
        """Borrow float32 or bfloat16 memory as vectors of a model.

        It may be written again: each call reads what is there when it begins. A NumPy array of another layout or another
        kind of float cannot be borrowed and is copied to float32.

        Args:
            array: ``(T, d)``, contiguous, on the CPU: NumPy, torch, or anything with DLPack.
            like: The model the vectors are for, or vectors of that model, whose space they then share.
            space: ``"input"`` or ``"layer"``; by default that of ``like``, or ``"input"``.
            layer: For ``"layer"``: how many layers were passed.
            normed: For ``"layer"``: whether the final norm was applied.
            copy: False refuses an array that would have to be copied.
        """
        if isinstance(like, Hidden):
            width = like.shape[1]
            if space is None:
                space, layer, normed = like.space, like.layer, like.normed
        elif hasattr(like, "fingerprint") and hasattr(like, "config"):
            width = like.config.width
        else:
            raise ArgumentError(f"like = {like!r}: it must be the Model the vectors are for, or a Hidden of it")
        if space not in (None, "input", "layer"):
            raise ArgumentError(f'space = {space!r}: it must be "input" or "layer"')
        if (space == "layer") != (layer is not None):
            raise ArgumentError(f'layer = {layer!r}: space="layer" needs a layer, space="input" has none')
        _check_layer(layer)
        core = _core.Hidden.borrow(_shareable(array, copy), like.fingerprint, layer, normed)
        if core.shape[1] != width:
            raise WidthError(
                f"vectors are {core.shape[1]} wide but this model's are {width}; "
                "use vectors made by this model or map them through an edge"
            )
        return cls(core)

    @property
    def shape(self) -> tuple[int, int]:
        """``(T, d)``."""
        return self._core.shape

    @property
    def dtype(self) -> str:
        """``"float32"`` or ``"bfloat16"``."""
        return self._core.dtype

    @property
    def space(self) -> str:
        """``"input"`` or ``"layer"``."""
        return self._core.space

    @property
    def layer(self) -> int | None:
        """Layers passed, for states of the residual stream."""
        return self._core.layer

    @property
    def normed(self) -> bool:
        """Whether the final norm was applied."""
        return self._core.normed

    @property
    def fingerprint(self) -> str:
        """The model these vectors belong to."""
        return self._core.fingerprint

    def numpy(self) -> npt.NDArray[np.float32]:
        """A NumPy view, read-only; bfloat16, which NumPy lacks, is copied to float32."""
        if self.dtype != "float32":
            return np.asarray(self.to("float32"))
        return np.asarray(self)

    def to(self, dtype: str) -> Hidden:
        """The same vectors stored as ``"float32"`` or ``"bfloat16"``."""
        return self if dtype == self.dtype else Hidden(self._core.to(dtype))

    def as_space(self, space: str, *, layer: int | None = None, normed: bool = False) -> Hidden:
        """The same vectors declared to belong elsewhere: the explicit way to use a state where it was not made for."""
        if space not in ("input", "layer") or (space == "layer") != (layer is not None):
            raise ArgumentError(f'space = {space!r}, layer = {layer!r}: it must be "input", or "layer" with a layer')
        _check_layer(layer)
        return Hidden(self._core.as_space(layer, normed))

    def __getitem__(self, rows: slice | int) -> Hidden:
        if isinstance(rows, int):
            at = rows + len(self) if rows < 0 else rows
            if not 0 <= at < len(self):
                raise IndexError(f"row {rows} of {len(self)}")
            return Hidden(self._core.rows(at, at + 1))
        if not isinstance(rows, slice):
            raise TypeError(f"rows are chosen by a number or a slice, not {type(rows).__name__}")
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ArgumentError(f"step = {step}: slices of vectors share memory, so their step must be 1")
        return Hidden(self._core.rows(start, max(start, stop)))

    def __len__(self) -> int:
        return len(self._core)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._core.__array_interface__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        view = np.asarray(self._core if self.dtype == "float32" else self._core.to("float32"))
        if dtype is not None and np.dtype(dtype) != view.dtype:
            if copy is False:
                raise ValueError(f"these vectors are float32; as {np.dtype(dtype)} they must be copied")
            return view.astype(dtype)
        return view.copy() if copy else view

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        return self._core.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._core.__dlpack_device__()

    def __repr__(self) -> str:
        where = self.space if self.layer is None else f"layer {self.layer}{', normed' if self.normed else ''}"
        return f"Hidden({self.shape[0]} x {self.shape[1]}, {self.dtype}, {where}, {self.fingerprint})"


def _check_layer(layer: object) -> None:
    """Refuse what is no count of layers."""
    counts = isinstance(layer, SupportsIndex) and not isinstance(layer, bool) and 0 <= index(layer) < 1 << 32
    if layer is not None and not counts:
        raise ArgumentError(f"layer = {layer!r:.80}: it must be a whole number from 0, the layers passed")


def _shareable(array: Any, copy: bool | None) -> Any:
    """Refuse early what has no memory to share and copy what cannot be shared; the engine checks the rest."""
    if isinstance(array, Hidden):
        return array._core
    if isinstance(array, np.ndarray):
        if array.ndim != 2:
            raise VectorError(f"the array has the shape {array.shape}, {array.ndim} dimensions; give (T, d)")
        if array.dtype.kind != "f":
            raise VectorError(f"the array has dtype {array.dtype}; convert it with .astype(numpy.float32)")
        with np.errstate(over="ignore"):  # the engine names a value that does not fit, where it is used
            ready = np.require(np.asarray(array), np.float32, ["C", "A"])
        if copy is False and ready.ctypes.data != array.ctypes.data:
            raise VectorError(
                f"a {array.dtype} array with strides {array.strides} would have to be copied; give aligned, "
                "C-contiguous float32, or leave copy at None"
            )
        return ready
    if not hasattr(array, "__dlpack__"):
        raise VectorError(f"{type(array).__name__} is no array; give a NumPy array, a torch tensor or a Hidden")
    return array


def segment(array: Tensor, like: Model) -> Hidden:
    """An array or tensor in a prompt, as vectors of the input space."""
    return array if isinstance(array, Hidden) else Hidden.wrap(array, like)
