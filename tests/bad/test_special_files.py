"""What a name in a model's folder may stand for instead of a file: devices, pipes, sockets, folders, nothing, and files
that grow. Each is a named error, at once; nothing waits and nothing is read without end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import densecore
from densecore import errors, regular
from tests import tiny
from tests.bad.refusal import refused
from tests.special import KINDS

pytest.importorskip("transformers", reason="the maker of tiny models is the extra `dev`")
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")

ENGINE = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
]


NAMED = (errors.ModelNotFoundError, errors.ModelFormatError, errors.StorageError)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sound folder of one file, one of shards, and a GGUF file."""
    folder = tmp_path_factory.mktemp("special")
    made = {
        "single": tiny.make_tiny("qwen2", folder / "single", seed=3),
        "sharded": tiny.make_tiny("qwen2", folder / "sharded", seed=3, sharded=True),
        "gguf": tiny.make_tiny_gguf("qwen2", folder / "m.gguf", "Q8_0", seed=3),
    }
    (made["single"] / "generation_config.json").touch()
    (made["single"] / "generation_config.json").write_text("{}")
    (made["single"] / "chat_template.jinja").write_text(tiny.TEMPLATE)
    densecore.Model.load(made["single"])
    densecore.Model.load(made["sharded"])
    return made


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A call that waits for ever ends the run with a trace instead."""
    import faulthandler

    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def with_special(sound: Path, folder: Path, name: str, kind: str) -> Path:
    """A copy of a folder where one name is something else."""
    shutil.copytree(sound, folder)
    (folder / name).unlink(missing_ok=True)
    KINDS[kind][0](folder / name)
    return folder


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", ENGINE)
def test_no_file_of_a_folder_may_be_something_else(
    whole: dict[str, Path], tmp_path: Path, name: str, kind: str
) -> None:
    folder = with_special(whole["single"], tmp_path / "m", name, kind)
    refused(lambda: densecore.Model.load(folder), NAMED, name)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("part", ["index", "shard"])
def test_nor_may_an_index_or_a_shard(whole: dict[str, Path], tmp_path: Path, part: str, kind: str) -> None:
    names = sorted(path.name for path in whole["sharded"].iterdir() if "safetensors" in path.name)
    name = next(name for name in names if name.endswith(".json") == (part == "index"))
    folder = with_special(whole["sharded"], tmp_path / "m", name, kind)
    refused(lambda: densecore.Model.load(folder), NAMED, "safetensors")


@pytest.mark.parametrize("kind", list(KINDS))
def test_nor_may_a_gguf_file(tmp_path: Path, kind: str) -> None:
    KINDS[kind][0](tmp_path / "m.gguf")
    refused(lambda: densecore.Model.load(tmp_path / "m.gguf"), NAMED, "m.gguf")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])
@pytest.mark.parametrize("name", ENGINE)
def test_the_front_alone_refuses_them_too(whole: dict[str, Path], tmp_path: Path, name: str, kind: str) -> None:
    """Hashing a folder, as `verify` does, opens every file."""
    from densecore.models import receipt

    place = with_special(whole["single"], tmp_path / "m", name, kind) / name
    refused(lambda: receipt.hash_file(place), errors.StorageError, name)


@pytest.mark.parametrize("kind", list(KINDS))
def test_contexts_and_programs_are_files_too(whole: dict[str, Path], tmp_path: Path, kind: str) -> None:
    KINDS[kind][0](tmp_path / "x")
    model = densecore.Model.load(whole["single"])
    refused(
        lambda: model.import_context(tmp_path / "x"),
        errors.StorageError,
        KINDS[kind][1] if kind != "link to itself" else "x",
    )
    with pytest.raises(OSError, match=KINDS[kind][1] if kind != "link to itself" else "x"):
        regular.read(tmp_path / "x", 10)


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_the_caches_note_is_in_files_too(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """References, licences and the token: what is no file is as if it were not there."""
    from densecore.models import cache, transport

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("DENSECORE_CACHE", str(tmp_path / "own"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    repo = cache.Repo("org/name")
    places = [repo.folder / "refs" / "main", tmp_path / "own" / "licences" / "models--org--name", tmp_path / "token"]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        KINDS[kind][0](place)
    assert repo.commit("main") is None
    assert cache.licence("org/name") is None
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    assert transport.token_for("https://huggingface.co", str(tmp_path)) is None
    # What is written takes the place of all but a folder.
    cache.note_licence("org/name", "mit")
    assert cache.licence("org/name") == (None if kind == "folder" else "mit")
    if kind == "folder":
        refused(lambda: repo.refer("main", "0" * 40), errors.StorageError, "refs")
    else:
        repo.refer("main", "0" * 40)
        assert repo.commit("main") == "0" * 40


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("mode", ["rb", "r+b", "ab"])
def test_no_mode_opens_what_is_no_file(tmp_path: Path, kind: str, mode: str) -> None:
    KINDS[kind][0](tmp_path / "x")
    with pytest.raises(OSError, match=KINDS[kind][1] if kind != "link to itself" else "x"):
        regular.opened(tmp_path / "x", mode)


def test_a_file_that_grows_is_read_to_its_length_or_cap(tmp_path: Path) -> None:
    """Somebody writes faster than it is read: reading ends all the same."""
    place = tmp_path / "log"
    place.write_bytes(b"a" * 1000)
    ended = threading.Event()

    def write() -> None:
        with place.open("ab") as file:
            while not ended.is_set():
                file.write(b"b" * 65_536)
                file.flush()
                if file.tell() > 1 << 28:
                    file.truncate(1000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            assert len(regular.read(place, 5000)) <= 5001
            assert len(regular.read(place)) <= (1 << 28) + 65_536
    finally:
        ended.set()
        writer.join()


def test_a_growing_file_of_a_model_ends_in_an_error(whole: dict[str, Path], tmp_path: Path) -> None:
    """config.json longer than its cap, as a file without blocks: refused by its size, not read."""
    folder = tmp_path / "m"
    shutil.copytree(whole["single"], folder)
    for name in ENGINE[:-1]:
        kept = (folder / name).read_bytes()
        os.truncate(folder / name, 1 << 40)
        refused(lambda: densecore.Model.load(folder), errors.LimitError, name, str(1 << 40))
        (folder / name).write_bytes(kept)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_files_that_claim_no_length_are_read_as_far_as_the_cap(whole: dict[str, Path], tmp_path: Path) -> None:
    """Files of /proc say 0 bytes and hold more: what is there counts."""
    folder = tmp_path / "m"
    shutil.copytree(whole["single"], folder)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/proc/self/status")
    refused(lambda: densecore.Model.load(folder), errors.ModelFormatError, "config.json")


def test_a_new_process_ends_too(whole: dict[str, Path], tmp_path: Path) -> None:
    """The review's example, in a process with little memory: no answer in 20 seconds and gigabytes at d5f3af9."""
    folder = with_special(whole["single"], tmp_path / "m", "chat_template.jinja", "device")
    program = (
        "import densecore\n"
        f"try:\n    densecore.Model.load({str(folder)!r})\n"
        "except densecore.errors.DenseCoreError as error:\n"
        "    peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM:'))\n"
        "    print(type(error).__name__, peak.split()[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    name, kib = done.stdout.split()
    assert name == "ModelNotFoundError"
    assert int(kib) < 400 << 10
