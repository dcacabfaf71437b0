"""The file a run leaves behind: one line about the run, then one line an example, all of them JSON.

A line is in the file before the next example is taken on, so a run that is killed loses what was in work and nothing
else. Opened again under the same name, a journal says which examples are done and goes on behind them:

>>> import tempfile
>>> from pathlib import Path
>>> folder = tempfile.TemporaryDirectory()
>>> path = Path(folder.name) / "cot.jsonl"
>>> header = Header.begin(run="cot", set="gsm8k", split="dev", program="ChainOfThought", seed=0, model="tiny")
>>> with Journal.open(path, header) as journal:
...     journal.append(Example(0, "dev-0", "1 + 1?", gold="2", prediction="2", text="It is 2.", correct=True))
>>> with Journal.open(path, header) as journal:
...     sorted(journal.done_ids)
['dev-0']
>>> Journal.read(path).examples[0].text
'It is 2.'
>>> folder.cleanup()
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from densecore.errors import DataError, StorageError
from densecore.report import record
from densecore.report.record import Example, Header
from densecore.runs import journal
from densecore.runs.journal import Journal as File


class Journal:
    """A run's file, open for more examples (:meth:`open`) or as it was read (:meth:`read`).

    Threads may append at the same time. One process writes: a second is refused.
    """

    def __init__(self, path: Path, header: Header, examples: list[Example], file: File | None = None) -> None:
        self.path = path
        self.header = header
        """The header in the file: that of the run's first start."""
        self._examples = examples
        self._ids = {example.id for example in examples}
        self._file = file
        self._turn = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], header: Header, resume: bool = True, *, fresh: bool = False) -> Journal:
        """Begin a journal, or go on with the one that is there.

        A last line that a kill cut short is dropped; its example counts as not done. With ``fresh`` all of it is dropped.

        Raises:
            DataError: The file is no journal, is one of another run, or is there although ``resume`` is off.
            StorageError: The file cannot be written, or another process is writing it.
        """
        place = Path(path)
        file = File(place, durable=True)
        try:
            data = file.read()
            record.recognise(place, data)
            found = None if fresh else record.parse(place, data)
            if found is None:
                file.go_on(0)
                file.append(record.line(header))
                return cls(place, header, [], file)
            stored, examples = found
            if not resume:
                raise DataError(
                    f"{place} holds {len(examples)} examples of run {stored.run!r}: resume it, or choose another name"
                )
            _same_run(place, stored, header)
            file.go_on(journal.whole(data))
        except BaseException:
            file.close()
            raise
        return cls(place, stored, examples, file)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Journal:
        """What a run has left so far; the run may still be at work.

        Raises:
            DataError: The file is no journal, or a line of it cannot be right; the message names the line.
            StorageError: The file cannot be read.
        """
        place = Path(path)
        try:
            data = place.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read the journal {place}: {error.strerror}") from error
        found = record.parse(place, data)
        if found is None:
            raise DataError(f"{place} is empty: the run was killed before it began; start it again")
        return cls(place, *found)

    @property
    def examples(self) -> list[Example]:
        """All there are, in the order of the set, whichever ended first."""
        with self._turn:
            return sorted(self._examples, key=lambda example: example.index)

    @property
    def done_ids(self) -> frozenset[str]:
        """Ids of the examples that are in the file."""
        with self._turn:
            return frozenset(self._ids)

    def append(self, example: Example) -> None:
        """Put an example into the file, and return when it is on the disk.

        Raises:
            DataError: Its id is there already, or the journal is not open for writing.
            StorageError: The disk took no more. Nothing is lost: free some room and go on.
        """
        if not example.ended:
            example = replace(example, ended=round(time.time(), 3))
        line = record.line(example)
        with self._turn:
            if self._file is None or not self._file.is_open:
                raise DataError(f"{self.path} is not open for writing: use Journal.open(path, header)")
            if example.id in self._ids:
                raise DataError(f"{self.path} holds example {example.id!r} already: skip what is in done_ids")
            self._file.append(line)
            self._examples.append(example)
            self._ids.add(example.id)

    def close(self) -> None:
        """Give the file back; what was appended is there already."""
        with self._turn:
            if self._file is not None:
                self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        with self._turn:
            return len(self._examples)


def _same_run(place: Path, stored: Header, header: Header) -> None:
    if differences := stored.differences(header):
        advice = "go on with what it was, choose another folder or name (--out, --run), or begin anew (--fresh)"
        raise journal.another(place, differences, advice)
