"""Safetensors headers, shards and tokenizers that lie: a named error, nothing read from outside the folder."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densecore
from densecore import errors
from tests import tiny
from tests.bad.refusal import refused
from tests.bad.test_bad_files import BROKEN, F, L, U, folder, lay

__all__ = ["folder"]
NAME = "model.layers.1.self_attn.q_proj.weight"
Header = dict[str, Any]


def split(data: bytes) -> tuple[Header, bytes]:
    """Header and payload of a safetensors file."""
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(header: Header | bytes, payload: bytes) -> bytes:
    """A safetensors file again."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def entry(**changes: Any) -> Callable[[bytes], bytes]:
    """A file in which one tensor's entry says something else."""

    def spoil(data: bytes) -> bytes:
        header, payload = split(data)
        header[NAME].update(changes)
        return join(header, payload)

    return spoil


def shifted(begin: int, end: int) -> Callable[[bytes], bytes]:
    """A file in which one tensor's bytes lie elsewhere."""

    def spoil(data: bytes) -> bytes:
        header, payload = split(data)
        old = header[NAME]["data_offsets"]
        header[NAME]["data_offsets"] = [old[0] + begin, old[1] + end]
        return join(header, payload)

    return spoil


def without(data: bytes) -> bytes:
    """A file that misses one tensor, its bytes moved together so that only the name is gone."""
    header, payload = split(data)
    begin, end = header.pop(NAME)["data_offsets"]
    for name, told in header.items():
        if name != "__metadata__" and told["data_offsets"][0] >= end:
            told["data_offsets"] = [place - (end - begin) for place in told["data_offsets"]]
    return join(header, payload[:begin] + payload[end:])


LIES: dict[str, tuple[Callable[[bytes], bytes], Any, tuple[str, ...]]] = {
    "empty file": (lambda d: b"", F, ("model.safetensors",)),
    "shorter than its length": (lambda d: d[:5], F, ("model.safetensors",)),
    "header longer than the file": (lambda d: struct.pack("<Q", 2**50) + d[8:], BROKEN, (str(2**50),)),
    "header over the cap": (lambda d: struct.pack("<Q", 200_000_000) + d[8:], BROKEN, ("200000000",)),
    "header of zero": (lambda d: struct.pack("<Q", 0) + d[8:], F, ()),
    "header no json": (lambda d: join(b"{not json" + b" " * 100, d[-4096:]), F, ("model.safetensors",)),
    "header a list": (lambda d: join(b"[1, 2]", b""), F, ()),
    "header no text": (lambda d: join(b'{"\xff\xfe": 1}', b""), F, ()),
    "header nested deep": (lambda d: join(b'{"a":' * 5000 + b"1" + b"}" * 5000, b""), F, ()),
    "integers": (entry(dtype="I32"), (F, U), (NAME, "I32")),
    "eight-bit floats": (entry(dtype="F8_E4M3"), (F, U), (NAME, "F8_E4M3")),
    "shape against bytes": (entry(shape=[96, 65]), F, (NAME,)),
    "shape transposed": (entry(shape=[64, 96]), F, (NAME,)),
    "shape negative": (entry(shape=[-96, 64]), F, ()),
    "shape that overflows": (entry(shape=[2**40, 2**40]), BROKEN, (NAME,)),
    "offsets beyond the file": (shifted(2**40, 2**40), F, (NAME,)),
    "offsets backwards": (shifted(96 * 64 * 4 + 8, 0), F, (NAME,)),
    "offsets that overlap": (shifted(-64, -64), F, (NAME,)),
    "a tensor missing": (without, F, (NAME,)),
    "payload cut": (lambda d: d[:-1000], F, ("model.safetensors",)),
    "payload with a tail": (lambda d: d + b"\0" * 64, F, ("model.safetensors",)),
}


@pytest.mark.parametrize("name", list(LIES))
def test_header_lies(folder: dict[str, bytes], tmp_path: Path, name: str) -> None:
    spoil, expected, fragments = LIES[name]
    place = lay(folder, tmp_path, model__safetensors=spoil(folder["model.safetensors"]))
    refused(lambda: densecore.Model.load(place), expected, *fragments)


def test_flipped_header_bits_never_crash(folder: dict[str, bytes], tmp_path: Path) -> None:
    data = folder["model.safetensors"]
    (size,) = struct.unpack("<Q", data[:8])
    random, refusals = np.random.default_rng(0), 0
    defects: list[str] = []
    lay(folder, tmp_path)
    for place in [*range(8), *map(int, random.integers(8, 8 + size, 250))]:
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << int(random.integers(8))
        (tmp_path / "model.safetensors").write_bytes(spoilt)
        try:
            densecore.Model.load(tmp_path, context=64).generate("a", max_tokens=2)
        except errors.DenseCoreError as error:
            defects += [f"byte {place}: {error}"] * isinstance(error, errors.InternalError)
            refusals += 1
    assert not defects
    assert refusals >= 200, "nearly every byte of a safetensors header matters"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_missing(folder: dict[str, bytes], tmp_path: Path, name: str) -> None:
    place = lay({key: content for key, content in folder.items() if key != name}, tmp_path)
    kinds = (F, errors.ModelNotFoundError, errors.TokenizerError)
    refused(lambda: densecore.Model.load(place), kinds, name.split(".")[0])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"model_type": 3}'], ids=repr)
def test_config_that_is_none(folder: dict[str, bytes], tmp_path: Path, content: bytes) -> None:
    place = lay(folder, tmp_path, config__json=content)
    refused(lambda: densecore.Model.load(place), (F, U), "config.json")


TOKENIZERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no json": lambda t: None,
    "unknown model": lambda t: t["model"].update(type="WordPiece"),
    "unknown pre-tokenizer": lambda t: t.update(pre_tokenizer={"type": "Metaspace", "replacement": "_"}),
    "unknown normaliser": lambda t: t.update(normalizer={"type": "Lowercase"}),
    "merge of unknown tokens": lambda t: t["model"]["merges"].append(["nowhere", "tobefound"]),
    "vocabulary missing": lambda t: t["model"].pop("vocab"),
    "id far beyond": lambda t: t["model"]["vocab"].update(far=4_000_000_000),
    "id twice": lambda t: t["model"]["vocab"].update(twice=5),
}


@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_tokenizer_lies(folder: dict[str, bytes], tmp_path: Path, name: str) -> None:
    told = json.loads(folder["tokenizer.json"])
    TOKENIZERS[name](told)
    content = b"{not json" if name == "no json" else json.dumps(told).encode()
    place = lay(folder, tmp_path, tokenizer__json=content)
    kinds = (errors.TokenizerError, F, U, L)
    refused(lambda: densecore.Model.load(place).tokenize("Natalia"), kinds)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A sound folder of several shards."""
    made = tiny.make_tiny("qwen3", tmp_path_factory.mktemp("shards"), seed=1, sharded=True)
    densecore.Model.load(made)
    return {path.name: path.read_bytes() for path in made.iterdir()}


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    "outside", ["../secret.safetensors", "/etc/passwd", "sub/../../secret.safetensors", "a\u0000b"]
)
def test_a_shard_may_not_leave_the_folder(shards: dict[str, bytes], tmp_path: Path, outside: str) -> None:
    index = json.loads(shards[INDEX])
    first = next(iter(index["weight_map"]))
    index["weight_map"][first] = outside
    place = tmp_path / "model"
    place.mkdir()
    lay({**shards, INDEX: json.dumps(index).encode()}, place)
    refused(lambda: densecore.Model.load(place), F, outside.split("\u0000")[0])


def test_shards_that_do_not_fit_their_index(shards: dict[str, bytes], tmp_path: Path) -> None:
    index = json.loads(shards[INDEX])
    one = next(name for name in shards if "00002-of" in name)
    missing = tmp_path / "missing"
    missing.mkdir()
    lay({name: content for name, content in shards.items() if name != one}, missing)
    refused(lambda: densecore.Model.load(missing), (F, errors.ModelNotFoundError), one)
    absent = tmp_path / "absent"
    absent.mkdir()
    gone = next(name for name, shard in index["weight_map"].items() if shard == one)
    del index["weight_map"][gone]
    lay({**shards, INDEX: json.dumps(index).encode()}, absent)
    refused(lambda: densecore.Model.load(absent), F, gone)
    empty = tmp_path / "empty"
    empty.mkdir()
    lay({**shards, INDEX: b"{}"}, empty)
    refused(lambda: densecore.Model.load(empty), F, INDEX)


def test_a_config_cannot_ask_for_more_than_the_machine(folder: dict[str, bytes], tmp_path: Path) -> None:
    """A table of 8 TiB in the header over an empty payload: refused with the numbers, before anything is allocated."""
    config = json.loads(folder["config.json"])
    header, _ = split(folder["model.safetensors"])
    big = 2**35
    header = {"model.embed_tokens.weight": {"dtype": "F32", "shape": [big, 64], "data_offsets": [0, big * 256]}}
    config["vocab_size"] = big
    place = lay(folder, tmp_path, config__json=json.dumps(config).encode(), model__safetensors=join(header, b""))
    kinds = (F, L, errors.InsufficientMemoryError)
    refused(lambda: densecore.Model.load(place), kinds)
