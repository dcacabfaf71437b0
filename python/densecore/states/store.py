"""Where the vectors behind handles lie: a bounded memory, and a folder if they shall outlive the process.

A handle is text, for DSPy carries text. Which handles in a prompt stand for vectors cannot depend on where they stand: DSPy
writes a field's value into the same string as a user's words, and a saved program gives its demonstrations back as plain
strings. It depends on their seal, a keyed hash over the rest. The key never leaves the process, or the store's folder, so:

* text that looks like a handle and has no seal stays text;
* a handle whose seal no store in use has made is an error: a forgery, or a state whose store is missing;
* a whole handle stands for its vectors wherever it is copied to. Who sees one, in ``lm.history``, a log or a saved program,
  can place the state again, as long as its store is in use. The model never sees it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densecore import _core
from densecore.arguments import whole
from densecore.errors import (
    ArgumentError,
    LimitError,
    NonFiniteError,
    SpaceError,
    StateError,
    StorageError,
    VectorError,
)
from densecore.hidden import Hidden
from densecore.runs import replace

MAX_BYTES = 1 << 28  # bytes of memory: 40,000 vectors of a model with 1.5 billion parameters, a quarter of its weights
KEY_BYTES = 32  # of a seal's key, the length of the hash it is used with
KEY_FILE = "seal.key"

_HANDLE = re.compile(
    r"<\|dense:sha256:([0-9a-f]{64}):([1-9][0-9]{0,8})x([1-9][0-9]{0,8}):([\w.-]{1,80}):([0-9a-f]{32})\|>", re.ASCII
)


@dataclass(frozen=True)
class Handle:
    """A state's name: what its vectors are, and the seal of the store that holds them; ``str()`` writes it."""

    sha256: str
    """Of the safetensors file: float32 components, shape, fingerprint and space."""
    shape: tuple[int, int]
    """``(T, d)``."""
    fingerprint: str
    """The model the vectors belong to."""
    seal: str

    @classmethod
    def read(cls, text: str) -> Handle:
        """The handle that ``text`` is, from end to end."""
        found = _HANDLE.fullmatch(text)
        if found is None:
            raise ArgumentError(
                f"{text!r:.80} is no handle of a state: make states with DenseState.of; a language model cannot write one"
            )
        sha256, rows, width, fingerprint, seal = found.groups()
        return cls(sha256, (int(rows), int(width)), fingerprint, seal)

    @property
    def body(self) -> str:
        """What is sealed."""
        return f"sha256:{self.sha256}:{self.shape[0]}x{self.shape[1]}:{self.fingerprint}"

    @property
    def file(self) -> str:
        """The name of its file in a store's folder."""
        return f"{self.sha256}.safetensors"

    def __str__(self) -> str:
        return f"<|dense:{self.body}:{self.seal}|>"


class DenseStore:
    """Vectors by their content, up to a number of bytes in memory; those not used for longest make room.

    With a folder each state is also a safetensors file there, named by the SHA-256 of its bytes and checked against it when it
    is read; nothing is ever removed from the folder. A program saved with states runs in another process that uses the same
    folder. States made before a new folder was opened are kept in it by ``DenseState.of(state.hidden())``. The folder is as
    confidential as the prompts, its ``seal.key`` included: without that file its states are lost.

    A store serves the whole process, between the ends of a ``with`` block or, by :meth:`use`, for good. New states go to the
    store that was opened last; handles are looked up in all open ones. Without any, a memory of 256 MiB is used.

    Args:
        folder: Where files are kept; made if it is not there. Without one, states live as long as the process.
        max_bytes: Memory for vectors.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.folder = None if folder is None else Path(folder).resolve()
        self.max_bytes = whole("max_bytes", max_bytes)
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._nbytes = 0
        self._turn = threading.Lock()
        self._key = _KEY if self.folder is None else _key_of(self.folder)

    @classmethod
    def use(cls, folder: str | os.PathLike[str] | None = None, *, max_bytes: int = MAX_BYTES) -> DenseStore:
        """Open a store for the rest of the process; any other on the same folder gives way."""
        store = cls(folder, max_bytes=max_bytes)
        with _opening:
            _open[:] = [one for one in _open if one.folder is None or one.folder != store.folder]
            _open.append(store)
        return store

    def __enter__(self) -> DenseStore:
        with _opening:
            _open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        with _opening:
            if self in _open:
                _open.remove(self)

    @property
    def nbytes(self) -> int:
        """Memory taken now."""
        return self._nbytes

    def put(self, hidden: Hidden) -> Handle:
        """Keep a copy of vectors of the input space."""
        if hidden.space != "input":
            raise SpaceError(
                f"{hidden!r} is no input of a model: make input vectors with embed() or think(), or write "
                'state.as_space("input") if you mean it'
            )
        # Read once, for others may write to it: what is checked is what is kept.
        body = np.ascontiguousarray(hidden.numpy(), "<f4").tobytes()
        data = np.frombuffer(body, "<f4").reshape(hidden.shape)
        if not data.size:
            raise VectorError(f"{hidden!r} holds no vectors; give at least one")
        if not np.isfinite(data).all():
            row, column = np.argwhere(~np.isfinite(data))[0]
            raise NonFiniteError(f"component {column} of vector {row} is {data[row, column]}; vectors must be finite")
        file = _header(hidden.shape, hidden.fingerprint) + body
        self._room(len(file))
        handle = self._sealed(Handle(hashlib.sha256(file).hexdigest(), hidden.shape, hidden.fingerprint, ""))
        if self.folder is not None and not (handle.sha256 in self._held and (self.folder / handle.file).exists()):
            _write(self.folder / handle.file, file)
        self._hold(handle, file)
        return handle

    def owns(self, handle: Handle) -> bool:
        """Whether this store has sealed it; its vectors may be gone since."""
        return hmac.compare_digest(self._sealed(handle).seal, handle.seal)

    def get(self, handle: Handle) -> Hidden | None:
        """The vectors of a handle it owns, from memory or the folder, or ``None`` where they are in neither."""
        with self._turn:
            file = self._held.get(handle.sha256)
            if file is not None:
                self._held.move_to_end(handle.sha256)
        if file is not None:
            return _vectors(handle, file)
        if self.folder is None:
            return None
        path, head = self.folder / handle.file, _header(handle.shape, handle.fingerprint)
        size = len(head) + 4 * handle.shape[0] * handle.shape[1]
        self._room(size)
        try:
            with path.open("rb") as opened:
                file = opened.read(size + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"reading {path} failed: {error}; make the folder readable") from error
        if not file.startswith(head) or hashlib.sha256(file).hexdigest() != handle.sha256:
            raise StateError(f"{path} is not the file its name says: remove it, and make the state again or restore it")
        self._hold(handle, file)
        return _vectors(handle, file)

    def _sealed(self, handle: Handle) -> Handle:
        seal = hmac.new(self._key, handle.body.encode(), hashlib.sha256).hexdigest()[:32]
        return Handle(handle.sha256, handle.shape, handle.fingerprint, seal)

    def _room(self, size: int) -> None:
        if size > self.max_bytes:
            raise LimitError(
                f"a state of {size} bytes does not fit into a store of {self.max_bytes}; open one with a larger max_bytes"
            )

    def _hold(self, handle: Handle, file: bytes) -> None:
        """Keeps a file in memory; others go if need be."""
        with self._turn:
            if handle.sha256 not in self._held:
                self._held[handle.sha256] = file
                self._nbytes += len(file)
            self._held.move_to_end(handle.sha256)
            while self._nbytes > self.max_bytes:
                self._nbytes -= len(self._held.popitem(last=False)[1])

    def __repr__(self) -> str:
        where = "memory" if self.folder is None else str(self.folder)
        return f"DenseStore({where}, {self._nbytes} of {self.max_bytes} bytes)"


def _vectors(handle: Handle, file: bytes) -> Hidden:
    """A copy, for whoever gets it may write to it through a tensor."""
    data = np.frombuffer(file, "<f4", offset=len(file) - 4 * handle.shape[0] * handle.shape[1]).copy()
    return Hidden(_core.Hidden.borrow(data.reshape(handle.shape), handle.fingerprint))


def current() -> DenseStore:
    """The store that new states go to."""
    with _opening:
        return _open[-1]


def find(handle: Handle) -> Hidden:
    """The vectors of a handle, in any open store."""
    with _opening:
        owners = [store for store in reversed(_open) if store.owns(handle)]
    for store in owners:
        found = store.get(handle)
        if found is not None:
            return found
    name = f"the state sha256:{handle.sha256[:12]}... of model {handle.fingerprint}"
    if not owners:
        raise StateError(
            f"{name} was made by no store in use: open the folder it was made in, with its {KEY_FILE}, by "
            "DenseStore.use(folder), or make the state again with DenseState.of"
        )
    raise StateError(
        f"the vectors of {name} are gone from {', '.join(map(repr, owners))}: make the state again with DenseState.of, and "
        "give the store a larger max_bytes or a folder if it shall last"
    )


def expand(text: str) -> str | list[str | Hidden]:
    """A text with its handles replaced by their vectors, as a message's content; a text without any stays as it is."""
    segments: list[str | Hidden] = []
    at = 0
    for found in _HANDLE.finditer(text):
        segments += [text[at : found.start()], find(Handle.read(found[0]))]
        at = found.end()
    return [*(one for one in (*segments, text[at:]) if isinstance(one, Hidden) or one)] if segments else text


def _header(shape: tuple[int, int], fingerprint: str) -> bytes:
    """The beginning of a safetensors file with one tensor, padded so that its components are aligned."""
    about = {
        "__metadata__": {"fingerprint": fingerprint, "space": "input"},
        "state": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * shape[0] * shape[1]]},
    }
    text = json.dumps(about, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _key_of(folder: Path) -> bytes:
    """The folder's key. A new folder gets this process's, so that states made before the folder can be kept in it."""
    path = folder / KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write(path, _KEY, new=True)
        key = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"opening the store {folder} failed: {error}; choose a folder that can be written"
        ) from error
    if len(key) != KEY_BYTES:
        raise StateError(f"{path} holds {len(key)} bytes instead of {KEY_BYTES}: restore it, or choose a new folder")
    return key


def _write(path: Path, data: bytes, *, new: bool = False) -> None:
    """A file that its owner alone can read."""
    try:
        (replace.write_new if new else replace.write)(path, data, private=True)
    except OSError as error:
        raise StorageError(f"writing {path} failed: {error}; check the folder and the free space") from error


_KEY = secrets.token_bytes(KEY_BYTES)
_opening = threading.Lock()
_open = [DenseStore()]
