"""Files that are there as a whole or not at all: whoever reads finds the old one or the new one, never a part.

>>> import tempfile
>>> from pathlib import Path
>>> folder = tempfile.TemporaryDirectory()
>>> place = Path(folder.name) / "note.txt"
>>> write(place, b"one")
>>> try:
...     with draft(place) as part:
...         _ = part.write_bytes(b"tw")
...         raise OSError("the disk is full")
... except OSError:
...     place.read_bytes(), len(list(place.parent.iterdir()))
(b'one', 1)
>>> folder.cleanup()
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from densecore.errors import StorageError

_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would write its own line ends


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A free name beside ``path``, for a ``with`` block to make a file of; it becomes ``path`` where the block ends well."""
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write(path: Path, data: bytes, *, private: bool = False, durable: bool = False) -> None:
    """Put bytes into a file.

    Args:
        path: The file; its folder must be there.
        data: All it is to hold.
        private: Readable by its owner alone.
        durable: Return when it is on the disk.

    Raises:
        OSError: They could not be written; what was there is still there.
    """
    with draft(path) as part:
        _fill(part, data, private, durable)
    if durable:
        settle_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Put a text into a file, durably; its folder is made if it is not there.

    Raises:
        StorageError: It cannot be written; what was there is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text.encode("utf-8", "backslashreplace"), durable=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; choose another place") from error


def write_new(path: Path, data: bytes, *, private: bool = False) -> None:
    """The same, unless the file is there: whoever comes first has written it."""
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        _fill(part, data, private, durable=False)
        os.link(part, path)
    except FileExistsError:
        pass
    finally:
        part.unlink(missing_ok=True)


def settle(part: Path, path: Path) -> None:
    """Give a file that is finished its name, once its bytes are on the disk."""
    with part.open("r+b") as file:  # writable, or Windows refuses to sync it
        os.fsync(file.fileno())
    os.replace(part, path)


def settle_folder(folder: Path) -> None:
    """Let a new name in a folder outlive a crash of the machine. Windows has no such call."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(part: Path, data: bytes, private: bool, durable: bool) -> None:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600 if private else 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(descriptor)
