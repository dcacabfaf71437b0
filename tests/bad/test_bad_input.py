"""Absurd arguments and vectors: each a named error with its value and remedy; the model answers afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densecore
from densecore import Hidden, Ids, Prompt, errors
from tests.bad.refusal import refused
from tests.golden.fixtures import Pair

A, P, C, L = errors.ArgumentError, errors.PromptError, errors.ContextLengthError, errors.LimitError
WRONG = (errors.ArgumentError, TypeError)  # an argument of the wrong type


@pytest.fixture(autouse=True)
def still_usable(small: Pair) -> Iterator[None]:
    """Whatever was refused, the same model then gives the same answer as before."""
    expected = small.ours.generate(Ids([5, 6, 7]), max_tokens=3, ignore_eos=True).ids
    yield
    assert small.ours.generate(Ids([5, 6, 7]), max_tokens=3, ignore_eos=True).ids == expected


def rows(model: Any, count: int = 3, width: int | None = None) -> np.ndarray:
    return np.full((count, width or model.config.width), 0.1, dtype=np.float32)


def spoiled(model: Any, value: float) -> np.ndarray:
    array = rows(model)
    array[1, 7] = value
    return array


Case = tuple[Callable[[Any], Any], Any, tuple[str, ...]]

GENERATE: dict[str, Case] = {
    "max_tokens 0": (lambda m: m.generate("a", max_tokens=0), A, ("max_tokens", "0")),
    "max_tokens negative": (lambda m: m.generate("a", max_tokens=-5), A, ("max_tokens", "-5")),
    "max_tokens huge": (lambda m: m.generate("a", max_tokens=10**12), (A, C), ("1000000000",)),
    "max_tokens beyond 64 bits": (lambda m: m.generate("a", max_tokens=2**70), (A, OverflowError), ("max_tokens",)),
    "max_tokens a bool": (lambda m: m.generate("a", max_tokens=True), WRONG, ("max_tokens",)),
    "max_tokens a float": (lambda m: m.generate("a", max_tokens=3.5), WRONG, ("max_tokens",)),
    "max_tokens a text": (lambda m: m.generate("a", max_tokens="3"), WRONG, ("max_tokens",)),
    "temperature nan": (lambda m: m.generate("a", temperature=float("nan")), A, ("temperature", "nan")),
    "temperature infinite": (lambda m: m.generate("a", temperature=float("inf")), A, ("temperature", "inf")),
    "temperature negative": (lambda m: m.generate("a", temperature=-1.0), A, ("temperature", "-1")),
    "temperature 1e9": (lambda m: m.generate("a", temperature=1e9), A, ("temperature", "1000000000")),
    "temperature a text": (lambda m: m.generate("a", temperature="hot"), WRONG, ("temperature",)),
    "top_k negative": (lambda m: m.generate("a", top_k=-1), A, ("top_k", "-1")),
    "top_k a float": (lambda m: m.generate("a", top_k=1.5), WRONG, ("top_k",)),
    "top_p 0": (lambda m: m.generate("a", top_p=0.0), A, ("top_p", "0")),
    "top_p 2": (lambda m: m.generate("a", top_p=2.0), A, ("top_p", "2")),
    "top_p nan": (lambda m: m.generate("a", top_p=float("nan")), A, ("top_p", "nan")),
    "min_p negative": (lambda m: m.generate("a", min_p=-0.1), A, ("min_p", "-0.1")),
    "typical_p zero": (lambda m: m.generate("a", typical_p=0.0), A, ("typical_p", "0")),
    "typical_p NaN": (lambda m: m.generate("a", typical_p=float("nan")), A, ("typical_p",)),
    "min_p over 1": (lambda m: m.generate("a", min_p=1.5), A, ("min_p", "1.5")),
    "seed negative": (lambda m: m.generate("a", seed=-1), A, ("seed", "-1")),
    "seed beyond 64 bits": (lambda m: m.generate("a", seed=2**70), A, ("seed", "1180591620717411303424")),
    "seed a text": (lambda m: m.generate("a", seed="x"), WRONG, ("seed",)),
    "logprobs negative": (lambda m: m.generate("a", logprobs=-2), A, ("logprobs", "-2")),
    "logprobs huge": (lambda m: m.generate("a", logprobs=10**6), (A, L), ("1000000",)),
    "stop empty": (lambda m: m.generate("a", stop=[""]), A, ("stop",)),
    "stop too many": (lambda m: m.generate("a", stop=["x"] * 1000), (A, L), ("1000", "64")),
    "stop too long": (lambda m: m.generate("a", stop=["x" * 100_000]), (A, L), ("100000", "1024")),
    "stop of numbers": (lambda m: m.generate("a", stop=[1, 2]), WRONG, ("stop",)),
    "cancel of another kind": (lambda m: m.generate("a", cancel=3), WRONG, ("cancel",)),
    "unknown argument": (lambda m: m.generate("a", temprature=1.0), TypeError, ("temprature",)),
    "stream checks at once": (lambda m: m.stream("a", top_p=7.0), A, ("top_p", "7")),
}

PROMPTS: dict[str, Case] = {
    "empty text": (lambda m: m.generate(""), P, ("empty",)),
    "empty ids": (lambda m: m.generate(Ids([])), P, ("empty",)),
    "empty list": (lambda m: m.generate([]), P, ("empty",)),
    "empty prompt object": (lambda m: m.generate(Prompt()), P, ("empty",)),
    "one empty of a batch": (lambda m: m.generate(["a", "", "b"]), P, ("empty",)),
    "embed of empty text": (lambda m: m.embed(""), P, ("empty",)),
    "score without target": (lambda m: m.score("a", ""), (P, A), ("target",)),
    "none": (lambda m: m.generate(None), (P, TypeError), ("None",)),
    "a number": (lambda m: m.generate(7), (P, TypeError), ("int",)),
    "bytes": (lambda m: m.generate(b"abc"), (P, TypeError), ("bytes",)),
    "a dict that is no message": (lambda m: m.generate([{"text": "a"}]), (P, errors.TemplateError), ("role",)),
    "prompt over the context": (lambda m: m.generate(Ids([1] * 5000)), C, ("5000", "2048")),
    "logits over the context": (lambda m: m.logits(Ids([1] * 3000)), C, ("3000", "2048")),
    "score over the context": (lambda m: m.score(Ids([1] * 2000), Ids([1] * 100)), C, ("2048",)),
    "think over the context": (lambda m: m.think(Ids([1] * 2000), 100), C, ("2100", "2048")),
    "encode over the context": (lambda m: m.encode(Ids([1] * 2049)), C, ("2049", "2048")),
    "context grown too long": (lambda m: m.prefill(Ids([1] * 2000)).extend(Ids([1] * 100)), C, ("2100", "2048")),
    "id over the vocabulary": (lambda m: m.generate(Ids([1, 512])), (P, A, errors.TokenizerError), ("512",)),
    "id far over": (lambda m: m.embed(Ids([2**31])), (P, A, errors.TokenizerError), ("2147483648",)),
    "id negative": (lambda m: m.generate(Ids([-1])), (P, A, TypeError), ("-1",)),
    "id a float": (lambda m: m.generate(Ids([1.5])), (P, A, TypeError), ("1.5",)),
    "detokenize out of range": (lambda m: m.detokenize([99_999]), (A, errors.TokenizerError), ("99999",)),
    "lone surrogate": (lambda m: m.tokenize("a\ud800b"), (A, P, errors.TokenizerError), ("ud800",)),
    "layer too high": (lambda m: m.encode("a", layer=5), A, ("layer", "5", "4")),
    "layer negative": (lambda m: m.encode("a", layer=-1), A, ("layer", "-1")),
    "layer a bool": (lambda m: m.encode("a", layer=True), WRONG, ("layer",)),
    "normed a text": (lambda m: m.encode("a", normed="yes"), WRONG, ("normed", "yes")),
    "text a number": (lambda m: m.tokenize(5), (P, TypeError), ("5", "int")),
    "pool unknown": (lambda m: m.encode("a", pool="max"), A, ("pool", "max", "mean")),
    "steps 0": (lambda m: m.think("a", 0), A, ("steps", "0")),
    "steps negative": (lambda m: m.think("a", -3), A, ("steps", "-3")),
    "steps huge": (lambda m: m.think("a", 10**9), (A, C), ("1000000000",)),
    "think mode unknown": (lambda m: m.think("a", 2, mode="dream"), A, ("mode", "dream", "mixture")),
    "think temperature 0": (lambda m: m.think("a", 2, temperature=0.0), A, ("temperature", "0")),
    "think top_k 0": (lambda m: m.think("a", 2, top_k=-4), A, ("top_k", "-4")),
    "readout top_k 0": (lambda m: m.readout(m.encode("a"), top_k=0), A, ("top_k", "0")),
    "truncate to more": (lambda m: m.prefill("abc").truncate(10**6), A, ("1000000",)),
    "truncate negative": (lambda m: m.prefill("abc").truncate(-1), A, ("-1",)),
}

VECTORS: dict[str, Case] = {
    "width": (lambda m: m.generate([rows(m, width=32)]), errors.WidthError, ("32", "64")),
    "wrap of another width": (lambda m: Hidden.wrap(rows(m, width=65), like=m), errors.WidthError, ("65", "64")),
    "nan": (lambda m: m.generate([spoiled(m, np.nan)]), errors.NonFiniteError, ("nan", "1", "7")),
    "infinity": (lambda m: m.forward(Hidden.wrap(spoiled(m, -np.inf), like=m)), errors.NonFiniteError, ("inf", "7")),
    "one dimension": (lambda m: m.generate([rows(m)[0]]), errors.VectorError, ("64",)),
    "three dimensions": (lambda m: Hidden.wrap(rows(m)[None], like=m), errors.VectorError, ("3",)),
    "no rows": (lambda m: m.generate([rows(m)[:0]]), (P, errors.VectorError), ("empty",)),
    "integers": (lambda m: m.generate([rows(m).astype(np.int64)]), (errors.VectorError, TypeError), ("int64",)),
    "objects": (lambda m: Hidden.wrap(np.array([[None] * 64]), like=m), (errors.VectorError, TypeError), ("object",)),
    "final states as inputs": (lambda m: m.generate([m.encode("a")]), errors.SpaceError, ("input", "raw")),
    "final states forward": (lambda m: m.forward(m.encode("a")), errors.SpaceError, ("input", "raw")),
    "final states decode": (lambda m: m.decode(m.encode("a")), errors.SpaceError, ("input", "raw")),
    "inputs readout": (lambda m: m.readout(m.embed("a")), errors.SpaceError, ("input", "raw")),
    "middle states readout": (lambda m: m.readout(m.encode("a", layer=2)), errors.SpaceError, ("2", "raw")),
    "space unknown": (lambda m: Hidden.wrap(rows(m), like=m, space="outer"), A, ("space", "outer", "input")),
    "layer negative": (lambda m: Hidden.wrap(rows(m), m, "layer", layer=-3), A, ("layer", "-3")),
    "layer of a space negative": (lambda m: m.embed("a").as_space("layer", layer=-3), A, ("layer", "-3")),
    "transposed": (lambda m: m.generate([rows(m).T]), errors.VectorError, ("3", "64")),
    "wrap without a model": (lambda m: Hidden.wrap(rows(m), like=None), WRONG, ("like",)),
}

GRADIENTS: dict[str, Case] = {
    "target beyond the vocabulary": (lambda m: m.loss_and_grad(None, rows(m), [5, 10**6]), A, ("1000000", "511")),
    "target negative": (lambda m: m.loss_and_grad(None, rows(m), [-1]), A, ("-1",)),
    "no targets": (lambda m: m.loss_and_grad(None, rows(m), []), A, ("target", "empty")),
    "empty text as targets": (lambda m: m.loss_and_grad(None, rows(m), ""), A, ("target", "empty")),
    "no vectors": (lambda m: m.loss_and_grad(None, rows(m)[:0], [5]), (A, errors.VectorError), ("vector",)),
    "no sequences": (lambda m: m.loss_and_grad(None, [], []), A, ("vectors", "empty")),
    "nan": (
        lambda m: m.loss_and_grad(None, spoiled(m, float("nan")), [5]),
        errors.NonFiniteError,
        ("row 1", "column 7"),
    ),
    "infinity": (lambda m: m.vjp(spoiled(m, float("-inf"))), errors.NonFiniteError, ("row 1", "column 7")),
    "width": (lambda m: m.loss_and_grad(None, rows(m, 3, 7), [5]), errors.WidthError, ("7", "64")),
    "states as vectors": (lambda m: m.loss_and_grad(None, m.encode("a"), [5]), errors.SpaceError, ("raw",)),
    "weights too few": (lambda m: m.loss_and_grad(None, rows(m), [5, 6], weights=[1.0]), A, ("weights", "2")),
    "weights nan": (lambda m: m.loss_and_grad(None, rows(m), [5], weights=[float("nan")]), A, ("weights", "NaN")),
    "weights a text": (lambda m: m.loss_and_grad(None, rows(m), [5], weights=["x"]), A, ("weights", "x")),
    "weights a number": (lambda m: m.loss_and_grad(None, rows(m), [5], weights=1.0), A, ("weights", "1.0")),
    "targets of another count": (lambda m: m.loss_and_grad(None, [rows(m)] * 2, [[5]]), A, ("targets", "2")),
    "prefixes of another count": (
        lambda m: m.loss_and_grad(["a", "b", "c"], [rows(m)] * 2, [[5]] * 2),
        A,
        ("prefix", "3"),
    ),
    "prefixes that could be one": (
        lambda m: m.loss_and_grad([rows(m), rows(m)], [rows(m)] * 2, [[5]] * 2),
        A,
        ("prefix", "Prompt"),
    ),
    "gradients by keys without any": (
        lambda m: m.loss_and_grad(None, rows(m), [5], grad=False, kv_grad=True),
        A,
        ("kv_grad",),
    ),
    "grad a number": (lambda m: m.loss_and_grad(None, rows(m), [5], grad=1), A, ("grad", "1")),
    "prefix out of the vocabulary": (lambda m: m.loss_and_grad(Ids([600]), rows(m), [5]), A, ("600",)),
    "memory negative": (lambda m: m.loss_and_grad(None, rows(m), [5], memory=-1), A, ("memory", "-1")),
    "longer than the context": (lambda m: m.loss_and_grad(None, rows(m, 2049), [5]), C, ("2049", "2048")),
    "layer too deep": (lambda m: m.vjp(rows(m), layer=5), A, ("layer", "5")),
    "a gradient of other length": (lambda m: m.vjp(rows(m)).pull(rows(m, 2)), A, ("gradient", "2", "3")),
    "a gradient of other width": (lambda m: m.vjp(rows(m)).pull(rows(m, 3, 9)), errors.WidthError, ("9", "64")),
    "a gradient of nan": (lambda m: m.vjp(rows(m)).pull(spoiled(m, float("nan"))), errors.NonFiniteError, ("row 1",)),
    "one gradient for a list": (lambda m: m.vjp([rows(m)] * 2).pull(rows(m)), A, ("gradient", "list")),
    "too few gradients": (lambda m: m.vjp([rows(m)] * 2).pull([rows(m)]), A, ("gradients", "2")),
}


@pytest.mark.parametrize("name", list(GRADIENTS))
def test_gradients(small: Pair, name: str) -> None:
    call, kind, fragments = GRADIENTS[name]
    refused(lambda: call(small.ours), kind, *fragments)


def test_gradients_of_a_model_without_room(small: Pair, other: Any) -> None:
    block = 64 * 2 * 4 * small.ours.config.kv_heads * small.ours.config.head_dim * small.ours.config.layers
    tight = densecore.Model.load(small.folder, kv="f32", cache_bytes=3 * block, prefix_bytes=0)
    vectors = rows(tight, 100)
    refused(lambda: tight.loss_and_grad(None, [vectors] * 2, [[5]] * 2), errors.InsufficientMemoryError, "cache")
    held = tight.prefill(Ids([5] * 70))
    refused(lambda: tight.loss_and_grad(None, vectors, [5]), errors.OverloadedError, "contexts")
    del held
    assert tight.loss_and_grad(None, vectors, [5]).grad.shape == vectors.shape
    foreign = other.prefill(Ids([5, 6]))
    refused(lambda: small.ours.loss_and_grad(foreign, rows(small.ours), [5]), A, "prefix", "context")


@pytest.mark.parametrize("name", list(GENERATE))
def test_generate(small: Pair, name: str) -> None:
    call, kind, fragments = GENERATE[name]
    if kind is TypeError:  # Python's own answer to a misspelt keyword
        with pytest.raises(TypeError, match=fragments[0]):
            call(small.ours)
    else:
        refused(lambda: call(small.ours), kind, *fragments)


@pytest.mark.parametrize("name", list(PROMPTS))
def test_prompts(small: Pair, name: str) -> None:
    call, kind, fragments = PROMPTS[name]
    refused(lambda: call(small.ours), kind, *fragments)


@pytest.mark.parametrize("name", list(VECTORS))
def test_vectors(small: Pair, name: str) -> None:
    call, kind, fragments = VECTORS[name]
    refused(lambda: call(small.ours), kind, *fragments)


@pytest.mark.parametrize("use", ["generate", "forward", "decode", "readout", "think", "score"])
def test_states_of_another_model(small: Pair, other: Any, use: str) -> None:
    ours, theirs = small.ours, other
    calls: dict[str, Callable[[], Any]] = {
        "generate": lambda: ours.generate(["a", Prompt(theirs.embed("b"))][1]),
        "forward": lambda: ours.forward(theirs.embed("b")),
        "decode": lambda: ours.decode(theirs.embed("b")),
        "readout": lambda: ours.readout(theirs.encode("b")),
        "think": lambda: ours.think(Prompt("a", theirs.embed("b")), 2),
        "score": lambda: ours.score(Prompt(theirs.embed("b")), "c"),
    }
    refused(calls[use], errors.FingerprintError, theirs.fingerprint, ours.fingerprint)


def test_raw_opens_the_space_and_nothing_else(small: Pair) -> None:
    model = small.ours
    states = model.encode("a")
    assert model.forward(states, raw=True).shape == states.shape
    refused(lambda: model.generate([rows(model, width=32)]), errors.WidthError, "32")
    broken = Hidden.wrap(spoiled(model, np.nan), like=model)
    refused(lambda: model.forward(broken, raw=True), errors.NonFiniteError, "nan")


def test_an_answer_ends_with_the_context(small: Pair) -> None:
    """More than the context holds is refused before any work; what fits to the last position is answered in full."""
    prompt = Ids([1] * 2040)
    refused(lambda: small.ours.generate(prompt, max_tokens=64, ignore_eos=True), C, "2103", "2040", "2048")
    refused(lambda: small.ours.generate(prompt, max_tokens=10, ignore_eos=True), C, "2049", "2048")
    refused(lambda: small.ours.stream(prompt, max_tokens=10, ignore_eos=True).result(), C, "2049", "2048")
    made = small.ours.generate(prompt, max_tokens=9, ignore_eos=True)  # the last token is not read again
    assert (made.finish_reason, len(made.ids)) == ("length", 9)


def test_context_data_that_is_none(small: Pair, other: Any, tmp_path: Any) -> None:
    data = small.ours.prefill("Natalia sold clips").export()
    assert data is not None
    state = errors.StateError
    refused(lambda: small.ours.import_context(b""), state, "0")
    refused(lambda: small.ours.import_context(b"garbage" * 100), state)
    for size in (10, 100, len(data) // 2, len(data) - 1):
        refused(lambda size=size: small.ours.import_context(data[:size]), state)
    refused(lambda: small.ours.import_context(data + b"tail"), state)
    refused(lambda: other.import_context(data), (state, errors.FingerprintError), small.ours.fingerprint)
    missing = tmp_path / "missing.bin"
    refused(lambda: small.ours.import_context(missing), errors.StorageError, "missing.bin")
    nowhere = tmp_path / "no folder" / "x.bin"
    refused(lambda: small.ours.prefill("a").export(nowhere), errors.StorageError, "no folder")
    assert not nowhere.parent.exists()


def test_flipped_context_data_is_refused_or_loads(small: Pair) -> None:
    """Any flipped bit is found; without a check sum a flipped number would go unseen."""
    data = small.ours.prefill("Natalia sold clips").export()
    random = np.random.default_rng(0)
    for place in [*range(64), *random.integers(64, len(data), 60).tolist()]:
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << int(random.integers(8))
        refused(lambda spoilt=spoilt: small.ours.import_context(bytes(spoilt)), errors.DenseCoreError)


@pytest.mark.parametrize(
    ("options", "kind", "fragments"),
    [
        ({"context": 0}, A, ("context", "0")),
        ({"context": -1}, A, ("context", "-1")),
        ({"context": 10**15}, (A, L, C, errors.InsufficientMemoryError), ("1000000000000000",)),
        ({"kv": "int3"}, A, ("kv", "int3", "f16")),
        ({"backend": "cpu"}, WRONG, ("backend",)),
        ({"queue": -1}, A, ("queue", "-1")),
        ({"queue": 1.5}, A, ("queue", "1.5")),
        ({"queue_seconds": -1}, A, ("queue_seconds", "-1")),
        ({"queue_seconds": float("inf")}, A, ("queue_seconds", "inf")),
        ({"queue_seconds": float("nan")}, A, ("queue_seconds", "nan")),
        ({"queue_seconds": "long"}, A, ("queue_seconds", "long")),
    ],
    ids=[
        "context 0",
        "context negative",
        "context huge",
        "kv unknown",
        "backend a text",
        "queue negative",
        "queue a fraction",
        "patience negative",
        "patience endless",
        "patience no number",
        "patience a text",
    ],
)
def test_load_arguments(small: Pair, options: dict, kind: Any, fragments: tuple[str, ...]) -> None:
    refused(lambda: densecore.Model.load(small.folder, **options), kind, *fragments)


@pytest.mark.parametrize("threads", [0, -2, 10**6])
def test_absurd_thread_counts(small: Pair, threads: int) -> None:
    call = lambda: densecore.Model.load(small.folder, backend=densecore.CPU(threads=threads))  # noqa: E731
    refused(call, (A, L, errors.BackendError), str(threads))


def test_a_gpu_that_is_not_there(small: Pair) -> None:
    refused(lambda: densecore.Model.load(small.folder, backend=densecore.GPU(63)), errors.BackendError, "63")


def test_unknown_names_and_paths(tmp_path: Any) -> None:
    missing = errors.ModelNotFoundError
    refused(lambda: densecore.Model.load(tmp_path / "none.gguf", offline=True), missing, "none.gguf")
    refused(lambda: densecore.Model.load("qwen9-no-such-model", offline=True), missing, "qwen9-no-such-model")
    refused(lambda: densecore.Model.load(""), (missing, A))


def test_vectors_that_could_not_be_copied(small: Pair, tmp_path: Path) -> None:
    """A terabyte that is mapped costs its owner nothing, and would cost the call its copy."""
    (tmp_path / "vast").touch()
    os.truncate(tmp_path / "vast", 1 << 40)
    width = small.ours.config.width
    vast = np.memmap(tmp_path / "vast", np.float32, "r", shape=((1 << 38) // width, width))
    hidden = densecore.Hidden.wrap(vast, like=small.ours)
    context = small.ours.prefill("A")
    for call in (
        lambda: small.ours.generate(Prompt(hidden)),
        lambda: small.ours.stream(Prompt(hidden)),
        lambda: small.ours.encode([Prompt("A"), Prompt(hidden)]),
        lambda: small.ours.forward(hidden),
        lambda: small.ours.readout(hidden, raw=True),
        lambda: small.ours.loss_and_grad(None, hidden, "A"),
        lambda: small.ours.vjp(hidden),
        lambda: context.extend(Prompt(hidden)),
        lambda: context.stream(Prompt(hidden)),
    ):
        refused(call, errors.InsufficientMemoryError, "copy of the vectors")
