"""What servers and disks do wrong: every fault is healed or named, and no partial file poses as whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from hubserver import Hub

from densecore.errors import DownloadError, IntegrityError, StorageError
from densecore.models import disk, fetch, resolve, transport

DATA = os.urandom(700_000)


def blobs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "hf/hub/models--org--name/blobs").glob("*"))


def ranges(server: Hub) -> list[str | None]:
    return [head.get("Range") for where, _, head in server.log if where == "files"]


def test_cut_connections_are_resumed(server: Hub) -> None:
    server.add("org/name", "m.gguf", DATA)
    server.cuts = [100_000, 0, 250_000]
    assert resolve("org/name").path.read_bytes() == DATA
    assert ranges(server) == [None, "bytes=100000-", "bytes=100000-", "bytes=350000-"]


def test_a_server_that_always_cuts_is_given_up_and_resumable(server: Hub, tmp_path: Path) -> None:
    server.add("org/name", "m.gguf", DATA)
    server.cuts = [1000] + [0] * 5
    with pytest.raises(DownloadError, match=r"broke off at 1000 of 700000 bytes.*5 tries.*run it again to resume"):
        resolve("org/name")
    assert [path.stat().st_size for path in blobs(tmp_path)] == [1000]
    assert resolve("org/name").path.read_bytes() == DATA
    assert ranges(server)[-1] == "bytes=1000-"


def test_no_ranges_starts_over(server: Hub) -> None:
    server.add("org/name", "m.gguf", DATA)
    server.cuts, server.ranges = [100_000], False
    assert resolve("org/name").path.read_bytes() == DATA


def test_a_wrong_range_starts_over(server: Hub) -> None:
    server.add("org/name", "m.gguf", DATA)
    server.cuts, server.wrong_range = [100_000], True
    assert resolve("org/name").path.read_bytes() == DATA
    assert ranges(server) == [None, "bytes=100000-", None]


@pytest.mark.parametrize("status", [429, 500, 503, 416])
def test_passing_faults_are_retried(server: Hub, status: int) -> None:
    server.add("org/name", "m.gguf", DATA)
    server.faults = [status, status]
    assert resolve("org/name").path.read_bytes() == DATA


@pytest.mark.parametrize(("status", "words"), [(403, "no access"), (404, "not found"), (400, "HTTP status 400")])
def test_lasting_faults_are_not(server: Hub, status: int, words: str) -> None:
    server.add("org/name", "m.gguf", DATA)
    server.faults = [status] * 9
    with pytest.raises(OSError, match=words) as caught:
        resolve("org/name")
    assert len(server.requests("files")) == 1
    assert "secret" not in str(caught.value)  # signed addresses stay out of messages


def test_wrong_bytes_are_removed(server: Hub, tmp_path: Path) -> None:
    flipped = bytearray(DATA)
    flipped[12345] ^= 1
    server.add("org/name", "m.gguf", bytes(flipped), claims=DATA)
    with pytest.raises(
        IntegrityError, match=r"org/name:m.gguf: .* sent bytes with SHA-256 .*, expected SHA-256 .*removed"
    ):
        resolve("org/name")
    assert blobs(tmp_path) == []
    assert not list(tmp_path.rglob("snapshots/*/*"))


def test_a_small_file_is_checked_by_its_git_id(server: Hub) -> None:
    server.add("org/name", "config.json", b'{"a": 2}', claims=b'{"a": 1}')
    server.add("org/name", "tokenizer.json", b"{}")
    server.add("org/name", "model.safetensors", DATA)
    with pytest.raises(IntegrityError, match="git blob id"):
        resolve("org/name")


def test_foreign_bytes_of_an_earlier_run_are_replaced(server: Hub, tmp_path: Path) -> None:
    blob = server.add("org/name", "m.gguf", DATA)
    folder = tmp_path / "hf/hub/models--org--name/blobs"
    folder.mkdir(parents=True)
    (folder / f"{blob.etag}.densecore.incomplete").write_bytes(b"\0" * 5000)
    assert resolve("org/name").path.read_bytes() == DATA
    assert ranges(server) == ["bytes=5000-", None]


def test_an_oversized_leftover_is_replaced(server: Hub, tmp_path: Path) -> None:
    blob = server.add("org/name", "m.gguf", DATA)
    folder = tmp_path / "hf/hub/models--org--name/blobs"
    folder.mkdir(parents=True)
    (folder / f"{blob.etag}.densecore.incomplete").write_bytes(b"\0" * (len(DATA) + 1))
    assert resolve("org/name").path.read_bytes() == DATA


@pytest.mark.parametrize("length", [len(DATA) - 1, len(DATA) + 1, 1 << 60])
def test_lying_lengths_are_refused(server: Hub, tmp_path: Path, length: int) -> None:
    server.add("org/name", "m.gguf", DATA)
    server.lying_length = length
    with pytest.raises(IntegrityError, match=rf"offers {length} bytes, expected 700000; nothing was kept"):
        resolve("org/name")
    assert blobs(tmp_path) == []


def test_more_bytes_than_told_are_refused(server: Hub, tmp_path: Path) -> None:
    server.add("org/name", "m.gguf", DATA)
    server.chunked, server.extra = True, b"more"
    with pytest.raises(IntegrityError, match="sent more than the expected 700000 bytes"):
        resolve("org/name")
    assert blobs(tmp_path) == []


def test_a_stalled_transfer_is_cut_and_resumed(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "POLICY", replace(fetch.POLICY, stall=0.2, slowest=1e9))
    server.add("org/name", "m.gguf", DATA)
    server.slow = 0.06  # 1 MB/s, a snail by this policy
    assert resolve("org/name").path.read_bytes() == DATA
    assert len(ranges(server)) > 1


def test_no_room_is_told_in_numbers_before_a_byte_moves(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 5_000_000))
    server.add("org/name", "m.gguf", DATA)
    with pytest.raises(DownloadError, match=r"not enough disk space.*700000 bytes.*5000000 bytes.*HF_HOME"):
        resolve("org/name")
    assert server.requests("files") == []


def test_a_disk_that_fills_leaves_nothing(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("org/name", "m.gguf", DATA)
    write, written = disk.write, 0

    def filling(handle: object, block: bytes) -> None:
        nonlocal written
        if written + len(block) > 200_000:
            write(handle, block[:10])  # type: ignore[arg-type]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += len(block)
        write(handle, block)  # type: ignore[arg-type]

    monkeypatch.setattr(disk, "write", filling)
    with pytest.raises(DownloadError, match=r"disk full.*of 700000 bytes.*bytes free.*partial file was removed"):
        resolve("org/name")
    assert blobs(tmp_path) == []
    monkeypatch.setattr(disk, "write", write)
    assert resolve("org/name").path.read_bytes() == DATA


def test_a_cache_that_cannot_be_written(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("org/name", "m.gguf", DATA)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot .*HF_HOME"):
        resolve("org/name")


def test_ctrl_c_leaves_a_resumable_state(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("org/name", "m.gguf", DATA)
    write = disk.write

    def interrupted(handle: object, block: bytes) -> None:
        write(handle, block)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(disk, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve("org/name")
    monkeypatch.setattr(disk, "write", write)
    assert resolve("org/name").path.read_bytes() == DATA
    assert str(ranges(server)[-1]).startswith("bytes=")


def test_redirects_are_bounded_and_stay_on_http(monkeypatch: pytest.MonkeyPatch) -> None:
    from email.message import Message

    def leading(to: str) -> None:
        class Answer:
            status = 302
            headers = Message()

            def close(self) -> None:
                return

        Answer.headers["Location"] = to

        class Opener:
            def open(self, *_: object, **__: object) -> Answer:
                return Answer()

        monkeypatch.setattr(transport, "_opener", Opener)

    leading("http://host/again")
    with pytest.raises(DownloadError, match=r"more than 10 redirects"):
        transport.request("http://host/x", timeout=1)
    leading("file:///etc/passwd")
    with pytest.raises(DownloadError, match="not an http or https address"):
        transport.request("http://host/x", timeout=1)
    leading("http://host/plain")
    with pytest.raises(DownloadError, match="not encrypted; refused"):
        transport.request("https://host/x", timeout=1)


def test_a_senseless_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "ftp://me:secret@hub.invalid")
    with pytest.raises(DownloadError, match=r"ftp://hub.invalid.*HF_ENDPOINT") as caught:
        resolve("org/name")
    assert "secret" not in str(caught.value)
