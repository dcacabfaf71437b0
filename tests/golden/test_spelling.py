"""Options as other libraries spell them: the error names ours, is a `TypeError`, and comes before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import densecore
from densecore import errors, spelling
from densecore.options import READERS
from tests.golden.fixtures import Pair

LOADING = {
    "n_ctx": "context", "max_model_len": "context", "n_threads": "CPU(threads=", "threads": "CPU(threads=",
    "n_gpu_layers": "CPU", "device_map": "CPU", "device": "CPU", "torch_dtype": "exact=True", "load_in_4bit": "exact=True",
    "local_files_only": "offline", "type_k": "kv", "model_path": "first argument", "contxt": "context",
    "temperature": "Model.generate", "nonsense": "backend, context, kv",
}  # fmt: skip
GENERATING = {
    "max_new_tokens": "max_tokens", "max_length": "max_tokens", "n_predict": "max_tokens", "do_sample": "temperature",
    "stop_strings": "stop", "stop_sequences": "stop", "num_beams": "beam", "grammar": "form=densecore.Json",
    "response_format": "form=densecore.Json", "n_ctx": "Model.load", "streamer": "stream(", "top_logprobs": "logprobs",
    "repeat_penalty": "repetition_penalty", "num_return_sequences": "n here",
    "max_token": "max_tokens", "nonsense": "temperature, top_k",
}  # fmt: skip


def refused(call: Callable[[], Any], hint: str) -> None:
    with pytest.raises(errors.OptionError) as caught:
        call()
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, errors.ArgumentError)
    assert hint in str(caught.value)


@pytest.mark.parametrize("name", LOADING)
def test_loading(name: str, tmp_path: Path) -> None:
    refused(lambda: densecore.Model.load(tmp_path / "none", **{name: 1}), LOADING[name])
    refused(lambda: densecore.Model.from_pretrained("none", **{name: 1}), LOADING[name])


def test_other_ways_to_a_model(tmp_path: Path) -> None:
    for call in (
        lambda: densecore.Model("smollm2-135m-instruct"),
        lambda: densecore.Model(model_path="model.gguf", n_ctx=2048),
        lambda: densecore.Model(tmp_path, "more"),
        lambda: densecore.Model(),
        lambda: densecore.Model.from_pretrained("smollm2-135m-instruct"),
    ):
        refused(call, "densecore.Model.load(")


@pytest.mark.parametrize("name", GENERATING)
def test_generating(small: Pair, name: str) -> None:
    context = small.ours.prefill("One")
    vectors = small.ours.embed("One")
    for call in (
        lambda: small.ours.generate("One", **{name: 1}),
        lambda: small.ours.stream("One", **{name: 1}),
        lambda: small.ours.decode(vectors, **{name: 1}),
        lambda: context.generate(**{name: 1}),
        lambda: context.stream(**{name: 1}),
    ):
        refused(call, GENERATING[name])


def test_the_table_leads_to_what_there_is() -> None:
    """No name of ours is called foreign, and what the table leads to is there."""
    ours = {*spelling.LOADING, *READERS, "raw", "cancel"}
    assert list(spelling.LOADING) == list(densecore.Model.load.__kwdefaults__)
    assert spelling.OURS.keys() <= ours
    assert not ours & spelling.ADVICE.keys()
    foreign = [other for others in spelling.OURS.values() for other in others]
    assert len(set(foreign)) == len(foreign)
    assert not set(foreign) & spelling.ADVICE.keys()
    assert not ours & set(foreign)


DSPYS = {
    "max_new_tokens": "max_tokens", "n_ctx": "load={...}", "do_sample": "temperature",
    "api_key": "there are", "temprature": "temperature", "context": "load={...}", "frequency_penalti": "",
}  # fmt: skip


@pytest.mark.parametrize("name", DSPYS)
def test_a_language_model_refuses_at_once(small: Pair, name: str) -> None:
    bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")
    lm = bridge.DenseLM(small.ours, cache=False)
    refused(lambda: bridge.DenseLM(small.ours, **{name: 1}), DSPYS[name])
    refused(lambda: bridge.configure(small.ours, **{name: 1}), DSPYS[name])
    refused(lambda: lm.copy(**{name: 1}), DSPYS[name])
    with pytest.raises(Exception, match=name):
        lm("Hi", **{name: 1})


def test_configure_sets_model_and_adapter(small: Pair) -> None:
    dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
    bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")
    before = {name: dspy.settings.get(name) for name in ("lm", "adapter")}
    try:
        for given in (str(small.folder), small.ours, bridge.DenseLM(small.ours, max_tokens=8)):
            lm = bridge.configure(given, max_tokens=40, cache=False)
            assert dspy.settings.lm is lm
            assert type(dspy.settings.adapter) is bridge.DenseAdapter
            assert lm.kwargs["max_tokens"] == 40
            assert type(dspy.Predict("question -> count: int")(question="How many?").count) is int
        assert bridge.configure(lm) is lm
    finally:
        dspy.configure(**before)
