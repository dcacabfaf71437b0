"""Files that somebody else may have made: regular files and nothing else are opened.

A name may be a link to a device, a pipe or a folder; opening or reading those may block or never end. So what is no
regular file is refused before it is opened, the open itself cannot block, what was opened is looked at again, and
reading stops at a cap.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, cast


def opened(path: str | os.PathLike[str], mode: str = "rb", buffering: int = -1) -> BinaryIO:
    """A regular file, open for reading, or in another binary mode.

    Raises:
        OSError: it cannot be opened so, or it is no regular file.
    """
    if "a" not in mode or os.path.lexists(path):
        _regular(os.stat(path), path)
    file = cast(BinaryIO, open(path, mode, buffering, opener=_without_waiting))  # noqa: SIM115 - the caller closes it
    try:
        _regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0), 0o666)


def read(path: str | os.PathLike[str], cap: int | None = None) -> bytes:
    """The whole file; with a `cap`, of one byte more at most, so that a longer file shows.

    Without one, a file is read up to the length it has when it is opened: one that grows meanwhile ends.

    Raises:
        OSError: it cannot be read, or it is no regular file.
    """
    with opened(path) as file:
        return file.read(os.fstat(file.fileno()).st_size if cap is None else cap + 1)


def blocks(file: BinaryIO, size: int = 1 << 20) -> Iterator[bytes]:
    """What an open file holds up to the length it has now, in blocks of ``size`` bytes."""
    left = os.fstat(file.fileno()).st_size
    while block := file.read(min(size, left)):
        left -= len(block)
        yield block


def _regular(facts: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(facts.st_mode):
        return
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    kind = next((name for test, name in kinds if test(facts.st_mode)), "something else")
    raise OSError(0, f"it is {kind}, not a regular file", os.fspath(path))
