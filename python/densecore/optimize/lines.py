"""Records of a compile, in the order in which they came: in a journal, or in memory alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densecore.errors import DataError
from densecore.runs import journal
from densecore.runs.journal import Journal


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
        self._journal: Journal | None = None
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        opened = Journal(path)
        try:
            self._read(path, data := opened.read())
            opened.go_on(journal.whole(data))
            if opened.is_empty:
                opened.append(journal.line(self.head))
        except BaseException:
            opened.close()
            raise
        self._journal = opened

    def _read(self, path: Path, data: bytes) -> None:
        begun = f'{{"{self._mark}": '.encode()
        if data[: len(begun)] != begun[: len(data)]:
            raise DataError(f"{path}:1: no file of this kind ({data[:60]!r}): choose another folder")
        for number, line in journal.lines(data):
            record = journal.record(path, number, line)
            if number > 1:
                self.records.append(record)
                continue
            if record[self._mark] != 1 or not isinstance(record.get("run"), dict):
                raise DataError(f"{path}:1: of another version ({line[:60]!r}): choose another folder")
            _same(path, record["run"], json.loads(json.dumps(self.head["run"])))
            self.head = record

    def append(self, record: dict[str, Any]) -> None:
        """Add a record. Once the file is closed nothing is added: threads that end late have nobody to tell.

        Raises:
            StorageError: The disk took no more; what the file holds is whole.
        """
        with self._turn:
            if self._journal is not None:
                if not self._journal.is_open:
                    return
                self._journal.append(journal.line(record))
            self.records.append(record)

    def close(self) -> None:
        """Give the file back."""
        with self._turn:
            if self._journal is not None:
                self._journal.close()


def _same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if names:
        advice = "give the arguments it was begun with, or choose another folder"
        raise journal.another(path, [(name, old.get(name), new.get(name)) for name in names], advice)
