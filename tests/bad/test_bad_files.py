"""Truncated, lying and unknown model files: a named error before anything is allocated, never a crash."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densecore
from densecore import errors
from tests import tiny
from tests.bad.refusal import refused

pytest.importorskip("transformers", reason="the maker of tiny models is the extra `dev`")

F, U, L = errors.ModelFormatError, errors.UnsupportedModelError, errors.LimitError
BROKEN = (F, L)  # a file that contradicts itself, or claims more than any real file holds


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound tiny GGUF file."""
    path = tiny.make_tiny_gguf("qwen2", tmp_path_factory.mktemp("gguf") / "sound.gguf", "Q8_0", seed=1, tied=False)
    densecore.Model.load(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a sound tiny safetensors folder."""
    made = tiny.make_tiny("qwen2", tmp_path_factory.mktemp("folder"), seed=1)
    densecore.Model.load(made)
    return {path.name: path.read_bytes() for path in made.iterdir()}


def after(data: bytes, key: str) -> int:
    """Place of the byte behind a key or a tensor name, which GGUF stores with its length before it."""
    whole = struct.pack("<Q", len(key)) + key.encode()
    return data.index(whole) + len(whole)


def put(data: bytes, place: int, layout: str, *values: Any) -> bytes:
    new = struct.pack("<" + layout, *values)
    return data[:place] + new + data[place + len(new) :]


def value(data: bytes, key: str, layout: str, number: Any) -> bytes:
    """Another value of the same type for a metadata key."""
    return put(data, after(data, key) + 4, layout, number)


TENSOR = "blk.1.attn_q.weight"  # dims 2 (u32), two u64, type u32, offset u64
GGUF_LIES: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "empty file": (lambda d: b"", F, ("0",)),
    "other magic": (lambda d: b"GGML" + d[4:], F, ("GGML",)),
    "big endian": (lambda d: put(d, 4, "I", 0x03000000), (F, U), ()),
    "version 1": (lambda d: put(d, 4, "I", 1), (F, U), ("1",)),
    "version 99": (lambda d: put(d, 4, "I", 99), (F, U), ("99",)),
    "huge tensor count": (lambda d: put(d, 8, "Q", 2**60), BROKEN, (str(2**60),)),
    "huge metadata count": (lambda d: put(d, 16, "Q", 2**61), BROKEN, (str(2**61),)),
    "one tensor too many": (lambda d: put(d, 8, "Q", struct.unpack("<Q", d[8:16])[0] + 1), BROKEN, ()),
    "key longer than the file": (lambda d: put(d, 24, "Q", 2**40), BROKEN, (str(2**40),)),
    "string longer than the file": (lambda d: value(d, "general.architecture", "Q", 2**62), BROKEN, (str(2**62),)),
    "unknown value type": (lambda d: put(d, after(d, "qwen2.block_count"), "I", 77), F, ("77",)),
    "array longer than the file": (lambda d: put(d, after(d, "tokenizer.ggml.merges") + 8, "Q", 2**50), BROKEN, ()),
    "array of unknown type": (lambda d: put(d, after(d, "tokenizer.ggml.merges") + 4, "I", 99), F, ("99",)),
    "key that is no text": (lambda d: put(d, after(d, "qwen2.block_count") - 2, "BB", 0xFF, 0xFE), F, ()),
    "five dimensions": (lambda d: put(d, after(d, TENSOR), "I", 5), BROKEN, ("5",)),
    "no dimensions": (lambda d: put(d, after(d, TENSOR), "I", 0), F, ()),
    "a dimension of zero": (lambda d: put(d, after(d, TENSOR) + 4, "Q", 0), F, ()),
    "dimensions that overflow": (lambda d: put(d, after(d, TENSOR) + 4, "QQ", 2**40, 2**40), BROKEN, (TENSOR,)),
    "dimensions of another model": (lambda d: put(d, after(d, TENSOR) + 4, "QQ", 32, 32), F, (TENSOR,)),
    "rows that split a block": (lambda d: put(d, after(d, TENSOR) + 4, "QQ", 33, 160), F, (TENSOR,)),
    "unknown tensor type": (lambda d: put(d, after(d, TENSOR) + 20, "I", 4242), (F, U), ("4242",)),
    "unsupported tensor type": (lambda d: put(d, after(d, TENSOR) + 20, "I", 16), (F, U), (TENSOR,)),
    "offset beyond the file": (lambda d: put(d, after(d, TENSOR) + 24, "Q", 2**45), F, (TENSOR,)),
    "offset that wraps": (lambda d: put(d, after(d, TENSOR) + 24, "Q", 2**64 - 32), F, (TENSOR,)),
    "offset off its alignment": (lambda d: put(d, after(d, TENSOR) + 24, "Q", 1), F, (TENSOR,)),
    "tensors that overlap": (lambda d: put(d, after(d, TENSOR) + 24, "Q", 32), F, (TENSOR,)),
    "a tensor missing": (lambda d: d.replace(TENSOR.encode(), b"blk.1.attn_Q.weight"), F, (TENSOR,)),
    "a tensor twice": (lambda d: d.replace(b"blk.1.ffn_up.weight", b"blk.2.ffn_up.weight"), F, ("blk.2.ffn_up",)),
    "unknown architecture": (lambda d: d.replace(b"qwen2", b"gemma", 1), U, ("gemma", "qwen2")),
    "no layers": (lambda d: value(d, "qwen2.block_count", "I", 0), (F, L), ("block_count",)),
    "too many layers": (lambda d: value(d, "qwen2.block_count", "I", 4_000_000_000), BROKEN, ("4000000000",)),
    "one layer more than there is": (lambda d: value(d, "qwen2.block_count", "I", 4), F, ("blk.3",)),
    "width zero": (lambda d: value(d, "qwen2.embedding_length", "I", 0), (F, L), ("embedding_length",)),
    "width of another model": (lambda d: value(d, "qwen2.embedding_length", "I", 320), F, ("320",)),
    "heads zero": (lambda d: value(d, "qwen2.attention.head_count", "I", 0), (F, L), ("head_count",)),
    "heads that do not group": (lambda d: value(d, "qwen2.attention.head_count_kv", "I", 3), F, ("3", "5")),
    "odd head size": (lambda d: value(d, "qwen2.attention.key_length", "I", 31), (F, U), ("31",)),
    "context zero": (lambda d: value(d, "qwen2.context_length", "I", 0), (F, L), ("context_length",)),
    "rope base nan": (lambda d: value(d, "qwen2.rope.freq_base", "f", float("nan")), F, ("freq_base", "nan")),
    "norm epsilon negative": (lambda d: value(d, "qwen2.attention.layer_norm_rms_epsilon", "f", -1.0), F, ("-1",)),
    "unknown pre-tokenizer": (
        lambda d: text(d, "tokenizer.ggml.pre", b"gemma"),
        (U, errors.TokenizerError),
        ("gemma",),
    ),
    "unknown tokenizer model": (
        lambda d: text(d, "tokenizer.ggml.model", b"bert"),
        (U, errors.TokenizerError),
        ("bert",),
    ),
}


def text(data: bytes, key: str, new: bytes) -> bytes:
    """Another text of the same length."""
    place = after(data, key) + 12  # behind the type and the length
    return data[:place] + new + data[place + len(new) :]


@pytest.mark.parametrize("name", list(GGUF_LIES))
def test_gguf_lies(gguf: bytes, tmp_path: Path, name: str) -> None:
    spoil, expected, fragments = GGUF_LIES[name]
    path = tmp_path / "lying.gguf"
    path.write_bytes(spoil(gguf))
    refused(lambda: densecore.Model.load(path), expected, *fragments)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.1, 0.3, 0.6, 0.9, 0.9999])
def test_truncated_gguf(gguf: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf[: int(len(gguf) * share)])
    refused(lambda: densecore.Model.load(path), F, "cut.gguf")


@pytest.mark.parametrize("scaling", ["longrope", "llama3", "dynamic"])
def test_gguf_rope_scaling_is_refused(scaling: str, tmp_path: Path) -> None:
    import gguf as library

    path = tmp_path / "scaled.gguf"
    kept = library.GGUFWriter.add_rope_freq_base

    def both(writer: Any, base: float) -> None:
        kept(writer, base)
        writer.add_string("qwen2.rope.scaling.type", scaling)
        writer.add_float32("qwen2.rope.scaling.factor", 4.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.GGUFWriter, "add_rope_freq_base", both)
        tiny.make_tiny_gguf("qwen2", path, "F32")
    refused(lambda: densecore.Model.load(path), U, scaling)


def test_flipped_header_bits_never_crash(gguf: bytes, tmp_path: Path) -> None:
    """A named error or a sound load; the dense part of the header, before the vocabulary, gets most of the flips."""
    random = np.random.default_rng(0)
    vocabulary = gguf.index(b"tokenizer.ggml.tokens")
    infos = after(gguf, "token_embd.weight") - 64
    places = [*range(24), *random.integers(24, vocabulary, 250), *random.integers(infos, infos + 2200, 250)]
    places += [*random.integers(vocabulary, infos, 100)]
    path, refusals = tmp_path / "flipped.gguf", 0
    defects: list[str] = []
    for place in map(int, places):
        spoilt = bytearray(gguf)
        spoilt[place] ^= 1 << int(random.integers(8))
        path.write_bytes(spoilt)
        try:
            model = densecore.Model.load(path, context=64)
            model.generate("a", max_tokens=2)
        except errors.DenseCoreError as error:
            defects += [f"byte {place}: {error}"] * isinstance(error, errors.InternalError)
            refusals += 1
    assert not defects
    assert refusals >= 50


CONFIG_LIES: dict[str, tuple[dict[str, Any], Any, tuple[str, ...]]] = {
    "unknown architecture": ({"architectures": ["MambaForCausalLM"], "model_type": "mamba"}, U, ("mamba",)),
    "yarn of another kind": ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7}}, U, ("mscale",)),
    "llama3 without its turns": ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, F, ("low_freq_factor",)),
    "linear without a factor": ({"rope_parameters": {"rope_type": "linear"}}, F, ("factor is missing",)),
    "a scaling that makes no sense": ({"rope_parameters": {"rope_type": "linear", "factor": 0.0}}, F, ("no sense",)),
    "longrope": ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, U, ("longrope",)),
    "old style scaling": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, U, ("dynamic",)),
    "partial rotary": ({"partial_rotary_factor": 0.3}, F, ("even part",)),
    "gelu": ({"hidden_act": "gelu"}, U, ("gelu", "silu")),
    "sliding window": ({"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, U, ("sliding",)),
    "no heads": ({"num_attention_heads": 0}, (F, L), ("num_attention_heads", "0")),
    "negative layers": ({"num_hidden_layers": -4}, (F, L), ("num_hidden_layers", "-4")),
    "heads that do not group": ({"num_key_value_heads": 3}, F, ("3", "4")),
    "width as text": ({"hidden_size": "wide"}, F, ("hidden_size",)),
    "width of another model": ({"hidden_size": 128}, F, ("128",)),
    "vocabulary of another model": ({"vocab_size": 1024}, F, ("1024",)),
    "absurd context": ({"max_position_embeddings": 2**62}, BROKEN, ("max_position_embeddings",)),
}


def lay(files: dict[str, bytes], place: Path, **changes: bytes | None) -> Path:
    """The folder with some files changed or left out (`config_json` stands for `config.json`)."""
    changed = {name.replace("__", "."): content for name, content in changes.items()}
    for name, content in {**files, **changed}.items():
        if content is not None:
            (place / name).write_bytes(content)
    return place


@pytest.mark.parametrize("name", list(CONFIG_LIES))
def test_config_lies(folder: dict[str, bytes], tmp_path: Path, name: str) -> None:
    changes, expected, fragments = CONFIG_LIES[name]
    config = {**json.loads(folder["config.json"]), **changes}
    place = lay(folder, tmp_path, config__json=json.dumps(config).encode())
    refused(lambda: densecore.Model.load(place), expected, *fragments)
