"""What long work leaves behind: locks on every system, whole files, journals, bars where somebody looks."""

from __future__ import annotations

import errno
import os
import sys
import types
from pathlib import Path

import pytest

from densecore.errors import DataError, StorageError
from densecore.runs import journal, lock, replace
from densecore.runs.journal import Journal
from densecore.runs.progress import wanted


class Windows(types.ModuleType):
    """``msvcrt`` as Windows has it: one byte of a file is locked, where the descriptor stands."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert count == 1
        place = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if mode == self.LK_UNLCK:
            assert self.held.pop(place) == descriptor
        elif place in self.held:
            raise PermissionError(errno.EACCES, "Permission denied")
        else:
            self.held[place] = descriptor


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    made = Windows()
    monkeypatch.setitem(sys.modules, "msvcrt", made)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(sys, "platform", "win32")
    return made


def test_a_lock_is_windows_own_where_there_is_no_other(windows: Windows, tmp_path: Path) -> None:
    with lock.hold(tmp_path / "a.lock", "x"):
        assert [place[1] for place in windows.held] == [0], "the byte that other tools lock, too"
        descriptor = os.open(tmp_path / "a.lock", os.O_RDWR)
        assert not lock.take(descriptor)
        os.close(descriptor)
    assert not windows.held


def test_a_journal_on_windows_can_be_read_while_it_grows(windows: Windows, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Journal(path, durable=True) as opened:
        opened.append(journal.line({"a": 1}))
        with pytest.raises(StorageError, match="being written by another run"):
            Journal(path)
        assert all(byte > len(path.read_bytes()) for _, byte in windows.held), "locked bytes cannot be read there"
        opened.append(journal.line({"a": 2}))
    assert [journal.record(path, *each) for each in journal.lines(path.read_bytes())] == [{"a": 1}, {"a": 2}]


def test_a_file_system_without_locks_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(StorageError, match="No locks available"):
        Journal(tmp_path / "a.jsonl")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_line_is_there_as_a_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "a.jsonl"
    real = os.write

    def part(descriptor: int, data: bytes) -> int:
        if len(data) < 9:
            raise error
        return real(descriptor, data[:4])

    with Journal(path) as opened:
        opened.append(journal.line({"a": 1}))
        monkeypatch.setattr(os, "write", part)
        with pytest.raises((StorageError, KeyboardInterrupt)):
            opened.append(journal.line({"b": "longer"}))
        monkeypatch.undo()
        assert path.read_bytes() == b'{"a": 1}\n'
        opened.append(journal.line({"c": 2}))
    assert path.read_bytes() == b'{"a": 1}\n{"c": 2}\n'
    with pytest.raises(DataError, match="not open"):
        opened.append(b"{}\n")


def test_whoever_writes_a_new_file_first_has_written_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    replace.write_new(path, b"first", private=True)
    replace.write_new(path, b"second", private=True)
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_a_replaced_file_keeps_to_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace.write(tmp_path / "a", b"x", durable=True)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_bars_are_for_whoever_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not wanted(None)
    assert wanted(True)
    notebook = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    assert wanted(None)
    assert not wanted(False)
