"""The commands: output, JSON, exit status."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hubserver import COMMIT, Hub

from densecore.models import CATALOGUE, cache
from densecore.models.__main__ import main

DATA = os.urandom(50_000)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


def test_list_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert all(name in out for name in CATALOGUE)
    status, out, _ = run(capsys, "list", "--json")
    told = json.loads(out)
    assert [model["name"] for model in told["models"]] == list(CATALOGUE)
    assert all(model["licence"] and model["origin"] and model["local"] == [] for model in told["models"])


def test_list_and_info_show_what_is_here_and_from_where(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    source = CATALOGUE["qwen3-0.6b"].hub[0]
    server.add(source.repo, str(source.file), DATA)
    assert run(capsys, "pull", "qwen3-0.6b")[0] == 0
    _, out, _ = run(capsys, "list")
    line = next(line for line in out.splitlines() if line.startswith("qwen3-0.6b "))
    assert "hf-cache (50 kB)" in line
    status, out, _ = run(capsys, "info", "qwen3-0.6b")
    assert status == 0
    assert all(
        word in out for word in ("Apache-2.0", "Alibaba", "596049920", "(hf-cache, 50000 bytes)", str(source.file))
    )
    _, out, _ = run(capsys, "info", "QWEN3-0.6b", "--json")
    assert json.loads(out)["local"][0]["bytes"] == 50_000


def test_pull_prints_licence_and_origin(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    server.add("org/name", "m.gguf", DATA)
    status, out, err = run(capsys, "pull", "org/name")
    assert status == 0
    assert "licence: mit  origin: org/name" in out
    assert "downloading org/name from the hub (org/name); licence mit, origin org/name" in err
    status, out, _ = run(capsys, "pull", "org/name", "--json", "--offline")
    told = json.loads(out)["pulled"][0]
    assert (told["source"], told["licence"], told["bytes"], told["verified"]) == ("hf-cache", "mit", 50_000, True)
    assert told["sha256"] == hashlib.sha256(DATA).hexdigest()
    status, out, _ = run(capsys, "info", "org/name")
    assert "mit" in out


def test_the_bar_is_drawn_when_forced(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    server.add("org/name", "m.gguf", DATA)
    assert "100%" in run(capsys, "pull", "org/name", "--progress")[2]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("pull", "no-such-model"), 1, "no model named 'no-such-model'"),
        (("pull", "org/name", "--offline"), 1, "offline mode forbids a download"),
        (("pull", "org/name"), 1, "cannot be reached"),
        (("pull", "org/name:../../x.gguf"), 2, "goes up a folder"),
        (("info", "qwen2-0.5bb"), 1, "did you mean"),
        (("verify", "qwen2-0.5b"), 1, "models pull qwen2-0.5b"),
        (("verify", "--sha256", "00"), 2, "exactly one NAME"),
        (("rm", "qwen2-0.5b", "--yes"), 1, "is in neither cache"),
    ],
)
def test_errors_have_a_status_a_value_and_a_remedy(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, text: str
) -> None:
    got, out, err = run(capsys, *words)
    assert (got, out) == (status, "")
    assert text in err
    assert err.startswith("error: ")
    got, out, _ = run(capsys, *words, "--json")
    assert got == status
    assert text in json.loads(out)["message"]


@pytest.mark.parametrize("words", [(), ("fly",), ("pull",), ("list", "--wrong")])
def test_usage_errors(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_help_documents_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["pull", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
        out = capsys.readouterr().out
        assert "exit status:" in out
        assert "3    integrity" in out


def test_a_flipped_bit_in_the_shared_cache(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    server.add("org/name", "m.gguf", DATA)
    run(capsys, "pull", "org/name")
    assert run(capsys, "verify", "org/name")[0] == 0
    path = cache.Repo("org/name").snapshot(COMMIT) / "m.gguf"
    stat = path.stat()
    data = bytearray(DATA)
    data[-1] ^= 128
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    status, _, err = run(capsys, "verify", "org/name")
    assert status == 3
    assert "is damaged" in err
    assert "models rm org/name" in err
    # Once found, a load refuses it too, and rm with pull heals it.
    assert run(capsys, "pull", "org/name")[0] == 3
    assert run(capsys, "rm", "org/name", "--yes")[0] == 0
    assert run(capsys, "pull", "org/name")[0] == 0
    assert path.read_bytes() == DATA


def test_verify_a_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    status, out, _ = run(capsys, "verify", str(path))
    assert status == 0
    assert "nothing to compare with" in out
    right = hashlib.sha256(DATA).hexdigest()
    assert run(capsys, "verify", str(path), "--sha256", right.upper())[0] == 0
    assert run(capsys, "verify", str(path), "--sha256", "0" * 64)[0] == 3


def test_verify_all_with_nothing_here(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "verify")
    assert status == 0
    assert "no model of the catalogue" in out


def test_rm_takes_one_file_and_leaves_the_rest(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    server.add("org/name", "a.gguf", DATA)
    server.add("org/name", "b.gguf", DATA[:1000])
    server.add("org/name", "same-as-b.gguf", DATA[:1000])
    for file in ("a", "b", "same-as-b"):
        assert run(capsys, "pull", f"org/name:{file}.gguf")[0] == 0
    folder = cache.Repo("org/name")
    assert run(capsys, "rm", "org/name:b.gguf", "--yes")[0] == 0
    assert {path.name for path in folder.snapshot(COMMIT).iterdir()} == {"a.gguf", "same-as-b.gguf"}
    assert (folder.snapshot(COMMIT) / "same-as-b.gguf").read_bytes() == DATA[:1000]  # the blob is shared
    assert run(capsys, "rm", "org/name:same-as-b.gguf", "--yes")[0] == 0
    assert len(list((folder.folder / "blobs").iterdir())) == 1
    assert run(capsys, "rm", "org/name", "--yes")[0] == 0
    assert not folder.folder.exists()


def test_rm_of_the_last_file_leaves_no_empty_folders(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    server.add("org/name", "a.gguf", DATA)
    run(capsys, "pull", "org/name:a.gguf")
    assert run(capsys, "rm", "org/name:a.gguf", "--yes")[0] == 0
    assert not cache.Repo("org/name").folder.exists()


def test_rm_never_touches_a_path_nor_follows_a_link_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(DATA)
    status, _, err = run(capsys, "rm", str(path), "--yes")
    assert (status, path.exists()) == (2, True)
    assert "remove it yourself" in err
    snapshot = cache.Repo("org/name").snapshot(COMMIT)
    snapshot.mkdir(parents=True)
    (snapshot / "m.gguf").symlink_to(path)
    assert run(capsys, "rm", "org/name:m.gguf", "--yes")[0] == 0
    assert path.read_bytes() == DATA


def test_rm_asks(server: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("org/name", "m.gguf", DATA)
    run(capsys, "pull", "org/name")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    status, _, err = run(capsys, "rm", "org/name")  # no terminal, nobody to ask
    assert (status, "add --yes" in err) == (2, True)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    assert run(capsys, "rm", "org/name")[0] == 1
    assert cache.Repo("org/name").folder.exists()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run(capsys, "rm", "org/name")[0] == 0
    assert not cache.Repo("org/name").folder.exists()


def test_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "densecore.models", "pull", "org/name", "--offline"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: org/name is not on this machine")
    assert "Traceback" not in done.stderr


def test_ctrl_c_has_its_own_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("densecore.models.__main__.resolve", interrupt)
    status, _, err = run(capsys, "pull", "qwen2-0.5b")
    assert (status, "run it again to resume" in err) == (130, True)
