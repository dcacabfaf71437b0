"""A file of JSON lines that grows with a run: what is in it when the run is killed, the next start need not do again."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densecore.errors import DataError, StorageError


class Lines:
    """Records in the order in which they came. Threads may append; one process writes.

    Written lines outlive the process, not the machine: a journal of answers is not worth a wait for the disk at each. A
    last line that a kill cut short is dropped.

    Args:
        path: The file; without one, records are kept in memory alone.
        kind: What they are, which the first line says.
        run: All that the records depend on, which the first line says, too. A file of another run is refused.
        facts: What else the first line is to say.
    """

    def __init__(
        self, path: Path | None, kind: str, run: Mapping[str, Any], facts: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self._mark = path, f"densecore_{kind}"
        self.head: dict[str, Any] = {self._mark: 1, "run": dict(run), **(facts or {})}
        """The first line: that of the run's first start."""
        self.records: list[dict[str, Any]] = []
        self._turn = threading.Lock()
        self._descriptor: int | None = None
        self._end = 0
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; choose another folder") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read(path, path.read_bytes())
            os.ftruncate(descriptor, self._end)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StorageError(
                f"{path} is being written by another run: wait for it, or choose another folder"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        if not self._end:
            self._put(descriptor, self.head)

    def _read(self, path: Path, data: bytes) -> None:
        begun = f'{{"{self._mark}": '.encode()
        if data[: len(begun)] != begun[: len(data)]:
            raise DataError(f"{path}:1: no file of this kind ({data[:60]!r}): choose another folder")
        self._end = data.rfind(b"\n") + 1
        for number, line in enumerate(data[: self._end].splitlines(), 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}:{number}: not JSON ({error!s:.80}): remove the line, or begin anew") from None
            if not isinstance(record, dict) or (number == 1 and not isinstance(record.get("run"), dict)):
                raise DataError(f"{path}:{number}: {line[:60]!r} is no line of a run: choose another folder")
            if number > 1:
                self.records.append(record)
                continue
            if record[self._mark] != 1:
                raise DataError(f"{path}:1: of another version ({line[:60]!r}): choose another folder")
            _same(path, record["run"], json.loads(json.dumps(self.head["run"])))
            self.head = record

    def append(self, record: dict[str, Any]) -> None:
        """Add a record. Once the file is closed nothing is added: threads that end late have nobody to tell.

        Raises:
            StorageError: The disk took no more; what the file holds is whole.
        """
        with self._turn:
            if self._descriptor is not None:
                self._put(self._descriptor, record)
            elif self.path is not None:
                return
            self.records.append(record)

    def _put(self, descriptor: int, record: dict[str, Any]) -> None:
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        try:
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
        except OSError as error:
            os.ftruncate(descriptor, self._end)
            raise StorageError(
                f"cannot write to {self.path}: {error.strerror}; what it holds is whole, so free some room and go on"
            ) from error
        self._end += len(line)

    def close(self) -> None:
        """Give the file back."""
        with self._turn:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if names:
        told = "; ".join(f"{name} was {old.get(name)!r:.120}, is now {new.get(name)!r:.120}" for name in names)
        raise DataError(
            f"{path} is of another run ({told}): give the arguments it was begun with, or choose another folder"
        )
