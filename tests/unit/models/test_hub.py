"""The hub path against a loopback server: layout, choice of files, token, offline, reuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hubserver import COMMIT, Hub
from tests.special import KINDS

from densecore import errors
from densecore.errors import (
    ArgumentError,
    DownloadError,
    IntegrityError,
    ModelFormatError,
    ModelNotFoundError,
    OfflineError,
)
from densecore.models import cache, catalogue, check, resolve
from densecore.models import hub as hub_module

GGUF = os.urandom(300_000)
CONFIG = b'{"architectures": ["Qwen2ForCausalLM"]}'


def folder_repo(server: Hub, repo: str = "org/folder") -> None:
    server.add(repo, "config.json", CONFIG)
    server.add(repo, "tokenizer.json", b'{"model": {}}')
    server.add(repo, "generation_config.json", b"{}")
    server.add(repo, "model.safetensors", os.urandom(100_000))


def test_a_gguf_lands_in_the_shared_layout(server: Hub, tmp_path: Path) -> None:
    blob = server.add("org/name", "m-q4_k_m.gguf", GGUF)
    server.add("org/name", "m-q8_0.gguf", b"not this one")
    found = resolve("org/name")
    assert (found.source, found.sha256, found.size, found.verified) == ("hub", blob.etag, len(GGUF), True)
    folder = tmp_path / "hf/hub/models--org--name"
    assert found.path == folder / "snapshots" / COMMIT / "m-q4_k_m.gguf"
    assert os.readlink(found.path) == os.path.join("..", "..", "blobs", blob.etag)
    assert found.path.read_bytes() == GGUF
    assert (folder / "refs/main").read_text() == COMMIT
    assert [path.name for path in (folder / "blobs").iterdir()] == [blob.etag]


def test_the_second_time_needs_no_network_and_no_hash(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("org/name", "m.gguf", GGUF)
    resolve("org/name")
    server.log.clear()
    monkeypatch.setattr(check.receipt, "hash_file", lambda *_: pytest.fail("hashed again"))
    found = resolve("org/name", offline=True)
    assert (found.source, found.verified, server.log) == ("hf-cache", True, [])


def test_a_cache_filled_by_another_tool_is_verified_once_and_used(tmp_path: Path, server: Hub) -> None:
    blob = server.add("org/name", "m.gguf", GGUF)
    folder = tmp_path / "hf/hub/models--org--name"
    for part in ("blobs", f"snapshots/{COMMIT}", "refs"):
        (folder / part).mkdir(parents=True)
    (folder / "blobs" / blob.etag).write_bytes(GGUF)
    (folder / "snapshots" / COMMIT / "m.gguf").symlink_to(f"../../blobs/{blob.etag}")
    (folder / "refs/main").write_text(COMMIT)
    assert resolve("org/name").source == "hf-cache"
    assert server.log == []
    (folder / "blobs" / blob.etag).write_bytes(GGUF[:-1])
    with pytest.raises(IntegrityError, match=r"is damaged.*rm org/name.*pull org/name"):
        resolve("org/name")


def test_a_safetensors_folder_and_never_a_pickle(server: Hub) -> None:
    folder_repo(server)
    for name in ("pytorch_model.bin", "model.pt", "x.pkl", "modeling_qwen.py", "README.md"):
        server.add("org/folder", name, b"never")
    found = resolve("org/folder")
    assert found.path.name == COMMIT
    there = {path.name for path in found.path.iterdir()}
    assert there == {"config.json", "tokenizer.json", "generation_config.json", "model.safetensors"}
    assert found.verified
    assert found.sha256 is None
    assert not any(path.endswith((".bin", ".pt", ".pkl", ".py")) for path in server.requests())


def test_named_templates_come_along(server: Hub, tmp_path: Path) -> None:
    """The layout of newer tokenizers: a file for each template beside the default."""
    folder_repo(server)
    named = {f"additional_chat_templates/{name}.jinja": f"{{{{ '{name}' }}}}".encode() for name in ("rag", "tool_use")}
    for name, source in named.items():
        server.add("org/folder", name, source)
    server.add("org/folder", "chat_template.jinja", b"{{ 'default' }}")
    for name in ("additional_chat_templates/deep/x.jinja", "additional_chat_templates/x.txt", "other/x.jinja"):
        server.add("org/folder", name, b"never")
    found = resolve("org/folder")
    there = {path.relative_to(found.path).as_posix() for path in found.path.rglob("*.*") if path.is_file()}
    assert {name for name in there if "/" in name} == set(named)
    assert all((found.path / name).read_bytes() == source for name, source in named.items())
    assert {found.path / name for name in named} <= set(found.files)
    assert found.verified
    server.log.clear()
    assert resolve("org/folder", offline=True).files == found.files
    (found.path / "additional_chat_templates" / "rag.jinja").resolve().write_bytes(b"other")
    with pytest.raises(IntegrityError, match="is damaged"):
        resolve("org/folder")


def test_too_many_named_templates_are_refused_before_one_is_asked_for(server: Hub) -> None:
    folder_repo(server)
    for number in range(33):
        server.add("org/folder", f"additional_chat_templates/{number}.jinja", b"x")
    with pytest.raises(ModelFormatError, match="33 named chat templates"):
        resolve("org/folder")
    assert not any("additional_chat_templates" in path for path in server.requests())


def test_a_sharded_folder(server: Hub) -> None:
    shards = {f"model-0000{i}-of-00003.safetensors": os.urandom(50_000 + i) for i in (1, 2, 3)}
    index = {"weight_map": {f"t{i}": name for i, name in enumerate(shards)}}
    server.add("org/sharded", "config.json", CONFIG)
    server.add("org/sharded", "tokenizer.json", b"{}")
    server.add("org/sharded", "model.safetensors.index.json", json.dumps(index).encode())
    for name, data in shards.items():
        server.add("org/sharded", name, data)
    found = resolve("org/sharded")
    assert all((found.path / name).read_bytes() == data for name, data in shards.items())
    assert len(found.files) == 6
    (found.path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(OfflineError, match="offline mode forbids"):
        resolve("org/sharded", offline=True)
    assert resolve("org/sharded").source == "hub"  # only the link was lost: the blob is there


@pytest.mark.parametrize(
    "shard", ["../../evil.safetensors", "/tmp/x.safetensors", "C:\\x.safetensors", "x.bin", "nul.safetensors"]
)
def test_hostile_shard_names(server: Hub, shard: str, tmp_path: Path) -> None:
    server.add("org/evil", "config.json", CONFIG)
    server.add("org/evil", "tokenizer.json", b"{}")
    server.add("org/evil", "model.safetensors.index.json", json.dumps({"weight_map": {"t": shard}}).encode())
    before = {path for path in tmp_path.rglob("*") if "hf" not in path.parts and "own" not in path.parts}
    with pytest.raises(ModelFormatError, match="refused"):
        resolve("org/evil")
    assert {path for path in tmp_path.rglob("*") if "hf" not in path.parts and "own" not in path.parts} == before


def test_hostile_names_in_the_listing_are_not_chosen(server: Hub) -> None:
    server.add("org/name", "../../m.gguf", GGUF)
    with pytest.raises(ModelNotFoundError, match="no model densecore reads"):
        resolve("org/name")


@pytest.mark.parametrize("commit", ["../../x", "", "main", "0" * 39, "G" * 40])
def test_a_commit_that_is_none(server: Hub, commit: str) -> None:
    server.add("org/name", "m.gguf", GGUF)
    server.commit = commit
    with pytest.raises(DownloadError, match="commit"):
        resolve("org/name")


def test_auto_map_is_ignored_with_a_warning(server: Hub) -> None:
    folder_repo(server)
    server.add("org/folder", "config.json", b'{"auto_map": {"AutoModel": "modeling.Evil"}}')
    with pytest.warns(UserWarning, match=r"org/folder: auto_map .* ignored"):
        resolve("org/folder")


def test_pickle_only_repositories_are_refused(server: Hub) -> None:
    server.add("org/old", "config.json", CONFIG)
    server.add("org/old", "pytorch_model.bin", b"x")
    with pytest.raises(ModelNotFoundError, match=r"pickled \(.bin\).*choose a safetensors or GGUF"):
        resolve("org/old")


def test_several_ggufs_ask_for_a_name(server: Hub) -> None:
    server.add("org/many", "a-q8_0.gguf", GGUF)
    server.add("org/many", "b-q6_k.gguf", GGUF[:1000])
    with pytest.raises(ModelNotFoundError, match="org/many:a-q8_0.gguf"):
        resolve("org/many")
    assert resolve("org/many:b-q6_k.gguf").size == 1000


def test_a_revision_is_followed(server: Hub, tmp_path: Path) -> None:
    server.add("org/name", "m.gguf", GGUF)
    resolve("org/name@refs/pr/1")
    assert (tmp_path / "hf/hub/models--org--name/refs/refs/pr/1").read_text() == COMMIT
    assert any("/revision/refs%2Fpr%2F1" in path for path in server.requests())
    assert resolve("org/name@refs/pr/1", offline=True).source == "hf-cache"


def test_the_token_goes_to_the_hub_and_not_to_its_file_server(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "hf_secret"
    server.add("org/gated", "m.gguf", GGUF)
    monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
    assert resolve("org/gated").size == len(GGUF)
    sent = {
        where: [head.get("Authorization") for w, path, head in server.log if w == where and path != "HEAD /"]
        for where in ("hub", "files")
    }
    assert set(sent["hub"]) == {"Bearer hf_secret"}
    assert set(sent["files"]) == {None}


def test_the_token_file_is_read(server: Hub, tmp_path: Path) -> None:
    server.token = "hf_file"
    server.add("org/gated", "m.gguf", GGUF)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/token").write_text("hf_file\n")
    assert resolve("org/gated").size == len(GGUF)


def test_no_token_says_what_to_do(server: Hub) -> None:
    server.token = "hf_secret"
    server.add("org/gated", "m.gguf", GGUF)
    with pytest.raises(DownloadError, match=r"401, no access \(no token was sent\).*accept its licence.*HF_TOKEN"):
        resolve("org/gated")


def test_a_wrong_token_is_not_shown(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "hf_secret"
    server.add("org/gated", "m.gguf", GGUF)
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_wrong")
    with pytest.raises(DownloadError, match="a token was sent, but") as caught:
        resolve("org/gated")
    assert "hf_wrong" not in str(caught.value)


def test_a_broken_token_is_named_without_its_value(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a\r\nX-Evil: 1")
    with pytest.raises(ArgumentError, match="HF_TOKEN") as caught:
        resolve("org/name")
    assert "hf_a" not in str(caught.value)


def test_not_found_names_the_address(server: Hub) -> None:
    with pytest.raises(ModelNotFoundError, match=r"/api/models/org/none/revision/main answered 404"):
        resolve("org/none")
    server.add("org/name", "m.gguf", GGUF)
    with pytest.raises(ModelNotFoundError, match=r"/org/name/resolve/main/other.gguf answered 404"):
        resolve("org/name:other.gguf")


def test_a_hub_without_hashes_is_refused(server: Hub) -> None:
    server.add("org/name", "m.gguf", GGUF)
    server.etag_headers = False
    with pytest.raises(IntegrityError, match="no commit, size and hash"):
        resolve("org/name")


def test_offline_says_what_is_missing_and_where_it_looked(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ask in ("qwen2.5-coder-1.5b-instruct", "org/name"):
        with pytest.raises(OfflineError) as caught:
            resolve(ask, offline=True)
        text = str(caught.value)
        assert ask in text
        assert str(tmp_path / "hf/hub") in text
        assert "--offline" in text
    assert str(tmp_path / "own/models/cc324af070c2ecbf") not in text
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError):
        resolve("smollm2-135m-instruct")
    assert server.log == []


def test_unknown_names_give_hints() -> None:
    with pytest.raises(ModelNotFoundError, match="'qwen2-0.5'.*qwen2-0.5b"):
        resolve("qwen2-0.5")
    with pytest.raises(ModelNotFoundError, match="no model named ''"):
        resolve("")
    with pytest.raises(ModelNotFoundError, match=r"no model at the path './none.gguf'"):
        resolve("./none.gguf")


def test_a_stalled_hub_costs_three_seconds_once(server: Hub) -> None:
    server.stall = threading.Event()
    begin = time.monotonic()
    with pytest.raises(DownloadError, match=r"cannot be reached: .*HF_ENDPOINT"):
        resolve("org/name")
    assert 2.5 < time.monotonic() - begin < 3.6
    begin = time.monotonic()
    with pytest.raises(DownloadError, match="cannot be reached"):
        resolve("qwen2-0.5b-instruct")
    assert time.monotonic() - begin < 0.2


def test_name_resolution_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    release = threading.Event()

    def deaf(*_: object, **__: object) -> None:
        release.wait(20)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", deaf)
    monkeypatch.setattr(hub_module, "PATIENCE", 0.3)
    begin = time.monotonic()
    with pytest.raises(hub_module.HubUnreachable, match="no answer within 0.3 s"):
        hub_module.reach()
    assert time.monotonic() - begin < 1.0
    release.set()


def test_a_second_repository_is_tried_when_the_first_lacks_the_file(server: Hub) -> None:
    folder_repo(server, "Qwen/Qwen2-0.5B-Instruct")
    found = resolve("qwen2-0.5b-instruct")
    assert found.path.name == COMMIT
    assert (found.licence, found.source) == ("Apache-2.0", "hub")


def test_a_pinned_name_takes_no_other_content(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue.CATALOGUE["qwen2.5-coder-1.5b-instruct"]
    server.add(entry.hub[0].repo, str(entry.hub[0].file), GGUF)
    monkeypatch.setattr(catalogue.Entry, "pypi", None, raising=False)
    with pytest.raises(DownloadError, match="the hub now offers SHA-256"):
        hub_module.pull(entry.hub[0], pin=entry.pin)


def test_where_links_fail_a_copy_serves(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("org/name", "m.gguf", GGUF)

    def no_link(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", no_link)
    monkeypatch.setattr(os, "link", no_link)
    found = resolve("org/name")
    assert not found.path.is_symlink()
    assert found.path.read_bytes() == GGUF
    assert found.verified


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", ["refs/main", "blobs/{}.densecore.incomplete", "blobs/{}", "snapshots/{}/m.gguf"])
def test_what_is_no_file_in_the_cache_is_replaced_or_named(server: Hub, name: str, kind: str) -> None:
    """Nothing waits for the other end of a pipe, or reads a device without end."""
    blob = server.add("org/name", "m.gguf", GGUF)
    place = cache.Repo("org/name").folder / name.format(COMMIT if "snapshots" in name else blob.etag)
    place.parent.mkdir(parents=True)
    KINDS[kind][0](place)
    if kind == "folder":
        with pytest.raises((errors.DownloadError, errors.StorageError), match="org.*name"):
            resolve("org/name")
        return
    assert resolve("org/name").path.read_bytes() == GGUF
    assert place.is_file() != place.name.endswith(".incomplete")


def test_two_processes_download_once(server: Hub, tmp_path: Path) -> None:
    server.add("org/name", "m.gguf", os.urandom(1_500_000))
    server.slow = 0.05
    command = [sys.executable, "-m", "densecore.models", "pull", "org/name", "--json"]
    pulls = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    answers = [pull.communicate(timeout=60) for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0], answers
    assert len(server.requests("files")) == 1
    assert len({json.loads(out)["pulled"][0]["path"] for out, _ in answers}) == 1
    assert cache.Repo("org/name").folder.is_dir()


def test_killed_in_the_middle_and_resumed(server: Hub, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    server.add("org/name", "m.gguf", data)
    server.slow = 0.05
    command = [sys.executable, "-m", "densecore.models", "pull", "org/name"]
    pull = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    blobs = tmp_path / "hf/hub/models--org--name/blobs"
    while time.monotonic() < deadline and not any(p.stat().st_size > 200_000 for p in blobs.glob("*.incomplete")):
        time.sleep(0.01)
    pull.kill()
    pull.wait()
    part = next(iter(blobs.glob("*.incomplete")))
    have = part.stat().st_size
    assert 200_000 <= have < len(data)
    assert not list((tmp_path / "hf/hub/models--org--name").glob("snapshots/*/*"))
    server.slow = 0.0
    server.log.clear()
    assert resolve("org/name").path.read_bytes() == data
    ranges = [head.get("Range") for where, _, head in server.log if where == "files"]
    assert ranges == [f"bytes={have}-"]
    assert not part.exists()
