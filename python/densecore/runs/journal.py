r"""A file of JSON lines that grows with a run: what is in it when the run is killed, the next start need not do again.

>>> import tempfile
>>> from pathlib import Path
>>> folder = tempfile.TemporaryDirectory()
>>> path = Path(folder.name) / "a.jsonl"
>>> with Journal(path) as journal:
...     journal.go_on(whole(journal.read()))
...     journal.append(line({"answer": 4}))
>>> _ = path.write_bytes(path.read_bytes() + b'{"answer"')  # cut short by a kill
>>> [record(path, number, each) for number, each in lines(path.read_bytes())]
[{'answer': 4}]
>>> folder.cleanup()
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densecore.errors import DataError, StorageError
from densecore.runs import lock
from densecore.runs.replace import settle_folder

_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would write its own line ends


class Journal:
    """The file, open for one writer; a second is refused. Threads take turns among themselves.

    Args:
        path: The file; made, with its folder, if it is not there.
        durable: Let each line outlive the machine, too, and not the process alone: each waits for the disk.

    Raises:
        StorageError: The file cannot be written, or another process is writing it.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path, self.durable = path, durable
        self._end = 0  # bytes that are whole lines
        self._torn = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY, 0o644)
        except OSError as error:
            raise StorageError(f"cannot write the journal {path}: {error.strerror}; choose another place") from error
        try:
            if not lock.take(self._descriptor, lock.BEHIND):
                raise StorageError(f"{path} is being written by another run: wait for it, or choose another place")
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                raise StorageError(f"cannot lock {path}: {error.strerror}; choose another place") from error
            raise

    @property
    def is_open(self) -> bool:
        """Whether lines can be appended."""
        return self._descriptor is not None

    @property
    def is_empty(self) -> bool:
        """Whether no line is there, of this start or those before."""
        return not self._end

    def read(self) -> bytes:
        """What the file holds, a last line that was cut short included."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}; make it readable") from error

    def go_on(self, end: int) -> None:
        """Drop what is behind so many bytes, and append there."""
        if self._descriptor is not None:
            try:
                os.ftruncate(self._descriptor, end)
            except OSError as error:
                raise StorageError(f"cannot go on with {self.path}: {error.strerror}; choose another place") from error
            self._end, self._torn = end, False

    def append(self, line: bytes) -> None:
        """Put a line into the file; it is there, as a whole, when this returns, and not at all if this raises.

        Raises:
            StorageError: The disk took no more. Nothing is lost: free some room and go on.
        """
        descriptor = self._descriptor
        if descriptor is None:
            raise DataError(f"{self.path} is not open for writing: open it again")
        try:
            self._mend(descriptor)
            self._torn = True  # until the line is whole, whatever interrupts it
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
            if self.durable:
                os.fsync(descriptor)
                if not self._end:
                    settle_folder(self.path.parent)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self._mend(descriptor)
            if isinstance(error, OSError):
                raise StorageError(
                    f"cannot write to the journal {self.path}: {error.strerror}; what it holds is whole: free some room and go on"
                ) from error
            raise
        self._end, self._torn = self._end + len(line), False

    def _mend(self, descriptor: int) -> None:
        if self._torn:
            os.ftruncate(descriptor, self._end)
            self._torn = False

    def close(self) -> None:
        """Give the file back; what was appended is there already."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # and the lock with it
            self._descriptor = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def whole(data: bytes) -> int:
    """The bytes of a file that are whole lines: a kill may have cut the last one short."""
    return data.rfind(b"\n") + 1


def lines(data: bytes) -> list[tuple[int, bytes]]:
    """The whole lines, with their numbers."""
    return list(enumerate(data[: whole(data)].splitlines(), 1))


def line(record: dict[str, Any]) -> bytes:
    """A record as a line.

    Raises:
        DataError: It holds what JSON cannot.
    """
    try:
        return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair, which models do emit; JSON can escape it
        return (json.dumps(record, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"cannot be written as JSON: {error}; give texts, finite numbers, lists and dicts") from error


def record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """A line as a record.

    Raises:
        DataError: It is none; the message names the line.
    """
    advice = "remove the line to have it done again, or begin anew"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: not JSON ({error!s:.80}): {advice}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}:{number}: not a JSON object: {advice}")
    return found


def another(path: Path, differences: Sequence[tuple[str, Any, Any]], advice: str) -> DataError:
    """The error for a file of another run, of which these facts were and are now: name, old, new."""
    told = "; ".join(f"{name} was {old!r:.120}, is now {new!r:.120}" for name, old, new in differences)
    return DataError(f"{path} is of another run ({told}): {advice}")
