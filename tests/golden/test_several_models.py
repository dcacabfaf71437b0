"""Several models of one process: memory that is promised once, and models that end."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import densecore
from densecore.errors import InsufficientMemoryError, StateError
from tests.golden.fixtures import Pair


def test_two_models_are_not_promised_the_same_memory(small: Pair) -> None:
    free = densecore.hardware().memory_available
    first = densecore.Model.load(small.folder, cache_bytes=free * 6 // 10)
    with pytest.raises(InsufficientMemoryError, match="cache_bytes"):
        densecore.Model.load(small.folder, cache_bytes=free * 6 // 10)
    # Who asks for no budget of its own shares what is left.
    second = densecore.Model.load(small.folder)
    assert second.memory.caches_allowed < free * 4 // 10
    del first
    gc.collect()
    third = densecore.Model.load(small.folder)
    assert third.memory.caches_allowed > free // 2
    assert third.generate("a", max_tokens=1).ids
    assert second.generate("a", max_tokens=1).ids


def test_a_closed_model_says_so(small: Pair) -> None:
    with densecore.Model.load(small.folder) as model:
        context = model.prefill("abc")
        stream = model.stream("abc", max_tokens=3, ignore_eos=True)
        assert model.generate("a", max_tokens=1).ids
    assert "closed" in repr(model)
    calls: list[Any] = [
        lambda: model.generate("a"),
        lambda: model.tokenize("a"),
        lambda: model.fingerprint,
        lambda: model.prefill("a"),
        lambda: context.generate(max_tokens=1),
        lambda: context.extend("a"),
    ]
    for call in calls:
        with pytest.raises(StateError, match="closed; load it again"):
            call()
    model.close()
    assert model.config.vocab
    assert context.length == 3
    del stream
    assert small.ours.generate("a", max_tokens=1).ids, "another model goes on"
