"""A lock between processes, held by the operating system: when its holder dies, it is free.

The file itself means nothing, so one left behind by a crash never blocks anybody.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from densecore.errors import StorageError

_POLL = 0.1  # seconds between two tries
_NOTICE = 1.0  # seconds of waiting before a person is told
BEHIND = 1 << 30
"""A byte behind what a file of ours holds. Windows locks bytes, and nobody else can read one that is locked."""


def take(descriptor: int, byte: int = 0) -> bool:
    """Lock an open file; whether it worked. Where the system locks bytes and not files, that byte alone.

    Raises:
        OSError: The file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, byte, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # of POSIX, of Windows
        return False
    return True


def give(descriptor: int, byte: int = 0) -> None:
    """Let the lock go that :func:`take` took."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, byte, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _current(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one at ``path`` (somebody may have removed it meanwhile)."""
    try:
        ours, there = os.fstat(descriptor), os.stat(path)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


@contextmanager
def hold(path: Path, purpose: str, *, quiet: bool = False) -> Iterator[None]:
    """Hold the lock at ``path`` for the length of a ``with`` block, waiting as long as it takes.

    ``purpose`` completes "another process is ..." in the notice a waiting person sees.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        begin, told = time.monotonic(), quiet
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                while not take(descriptor):
                    if not told and time.monotonic() - begin > _NOTICE:
                        told = True
                        print(f"waiting: another process is {purpose} (lock {path})", file=sys.stderr, flush=True)
                    time.sleep(_POLL)
                if _current(descriptor, path):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
    except OSError as error:
        raise StorageError(
            f"cannot create the lock {path}: {error.strerror or error}; make the folder writable, or set "
            "DENSECORE_CACHE (or HF_HOME) to one that is"
        ) from error
    try:
        yield
    finally:
        try:
            give(descriptor)
        finally:
            os.close(descriptor)
