"""Receipts: a verified file is not hashed again as long as its size and change time stay the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from densecore import regular
from densecore.errors import StorageError
from densecore.runs import replace

_MAX_NOTE = 1 << 16  # bytes: a note holds four short fields
BLOCK = 1 << 20  # bytes per read while hashing: large enough to drown call overhead


@dataclass(frozen=True)
class Digest:
    """A content hash: ``sha256`` of the bytes, or ``git`` (SHA-1 of ``blob <length>\\0`` and the bytes).

    >>> Digest.from_etag("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").matches(Digest.of_bytes("git", b""))
    True
    """

    kind: str
    value: str

    @classmethod
    def from_etag(cls, etag: str) -> Digest | None:
        """64 hex digits are a SHA-256, 40 a git blob id, anything else is no hash."""
        if all(char in "0123456789abcdef" for char in etag):
            if len(etag) == 64:
                return cls("sha256", etag)
            if len(etag) == 40:
                return cls("git", etag)
        return None

    @classmethod
    def of_bytes(cls, kind: str, data: bytes) -> Digest:
        """The digest of ``data``."""
        hasher = start(kind, len(data))
        hasher.update(data)
        return cls(kind, hasher.hexdigest())

    def matches(self, other: Digest) -> bool:
        """Same kind and same value."""
        return self == other

    def __str__(self) -> str:
        """As shown to people: ``SHA-256 abc...``."""
        return f"{'SHA-256' if self.kind == 'sha256' else 'git blob id'} {self.value}"


def start(kind: str, size: int) -> hashlib._Hash:
    """A fresh hasher of that kind for ``size`` bytes."""
    if kind == "sha256":
        return hashlib.sha256()
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


def hash_file(path: Path, kind: str = "sha256", step: Callable[[int], None] | None = None) -> Digest:
    """Hash a whole file; ``step`` is told the bytes of each block."""
    try:
        with regular.opened(path) as handle:
            hasher = start(kind, os.fstat(handle.fileno()).st_size)
            for block in regular.blocks(handle, BLOCK):
                hasher.update(block)
                if step is not None:
                    step(len(block))
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}; check the file and its permissions"
        ) from error
    return Digest(kind, hasher.hexdigest())


class Receipts:
    """A folder of small JSON files, one per verified path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, path: Path) -> Path:
        key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
        return self._folder / f"{key}.json"

    def read(self, path: Path) -> Digest | None:
        """The digest once verified for ``path``, if the file looks unchanged since."""
        try:
            stat = path.stat()
            note = json.loads(regular.read(self._file(path), _MAX_NOTE))
            if note["size"] == stat.st_size and note["mtime_ns"] == stat.st_mtime_ns:
                return Digest(str(note["kind"]), str(note["digest"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None

    def recorded(self, path: Path) -> Digest | None:
        """The digest once verified for ``path``, even if the file changed since."""
        try:
            note = json.loads(regular.read(self._file(path), _MAX_NOTE))
            return Digest(str(note["kind"]), str(note["digest"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path, digest: Digest) -> None:
        """Note that ``path`` was verified. A cache that cannot be written costs a rehash later, no more."""
        try:
            stat = path.stat()
            note = {
                "path": os.path.realpath(path),
                "size": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "kind": digest.kind,
                "digest": digest.value,
            }
            self._folder.mkdir(parents=True, exist_ok=True)
            replace.write(self._file(path), json.dumps(note).encode())
        except OSError:
            return

    def drop(self, path: Path) -> None:
        """Forget ``path``."""
        try:
            self._file(path).unlink()
        except OSError:
            return
