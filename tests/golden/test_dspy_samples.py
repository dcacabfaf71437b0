"""Several samples of one call are one batch, and DSPy sees nothing of it but the time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import densecore
from densecore import errors
from tests.golden.fixtures import Pair

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")


@pytest.fixture(autouse=True)
def cache_in_memory() -> Iterator[None]:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    yield
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each call of the model had."""
    found: list[int] = []
    generate = densecore.Model.generate

    def counted(self: Any, prompt: Any, **options: Any) -> Any:
        found.append(len(prompt))
        return generate(self, prompt, **options)

    monkeypatch.setattr(densecore.Model, "generate", counted)
    return found


@pytest.fixture
def lm(small: Pair) -> Any:
    return bridge.DenseLM(small.ours, max_tokens=12, temperature=1.0, cache=False)


@pytest.mark.parametrize("way", ["call", "acall"])
def test_samples_are_one_batch(lm: Any, batches: list[int], way: str) -> None:
    """Of one seed they are what they were one after the other, and the call repeated gives them again."""
    from densecore.dspy import draws
    from densecore.runs.meter import metered

    def ask(**options: Any) -> Any:
        return lm("Tell", **options) if way == "call" else asyncio.run(lm.acall("Tell", **options))

    with metered() as meter:
        six = ask(n=6, seed=11)
    assert batches == [6]
    assert meter.calls == 6
    assert lm.history[-1]["outputs"] == six
    assert lm.history[-1]["usage"]["completion_tokens"] == meter.emitted_tokens
    with draws.call(samples=6):
        seeds = draws.seeds(11, 6)
    assert six == [lm.dense.generate([{"role": "user", "content": "Tell"}], max_tokens=12, temperature=1.0, seed=s).text
                   for s in seeds]  # fmt: skip
    assert seeds[0] == 11
    assert len(set(six)) == 6
    del batches[:]
    assert ask(n=6, seed=11) == six
    assert len(set(ask(n=6))) == 6, "without a seed"
    assert len(set(lm.copy(n=4, seed=1)("Tell"))) == 4
    assert set(ask(n=6, seed=11, rollout_id=5)).isdisjoint(six)
    assert batches == [6, 6, 4, 6]


def test_the_cache_keeps_them_together(lm: Any, batches: list[int]) -> None:
    lm = lm.copy(cache=True)
    four = lm("Tell", n=4)
    assert lm("Tell", n=4) == four
    assert batches == [4]
    assert not lm.history[-1]["usage"]
    lm("Tell", n=5)
    assert batches == [4, 5]


def test_a_program_asks_for_samples_in_one_batch(lm: Any, batches: list[int]) -> None:
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
        found = dspy.Predict("topic -> story", n=3, max_tokens=40)(topic="a goat").completions
    assert len(found.story) == 3
    assert batches == [3]


def test_a_batch_that_failed_is_drawn_again(lm: Any, batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = lm("Tell", n=3, seed=2)
    generate, failures = densecore.Model.generate, [errors.OverloadedError("busy")]

    def busy(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return generate(*arguments, **options)

    monkeypatch.setattr("dspy.clients.execution._delay", lambda *_: 0)
    monkeypatch.setattr(densecore.Model, "generate", busy)
    assert lm("Tell", n=3, seed=2) == expected
    assert batches == [3, 3]


def test_samples_that_stream_come_one_by_one(lm: Any) -> None:
    """A listener hears one answer at a time; their draws are those of the batch."""
    expected = lm("Tell", n=3, seed=2)
    from densecore.dspy import draws

    request = dspy.lm15.Request(model=lm.model, messages=(dspy.lm15.Message.user("Tell"),),
                                config=dspy.lm15.Config(max_tokens=12, temperature=1.0, seed=2))  # fmt: skip
    with draws.call(samples=3):
        found = ["".join(e.delta.text for e in lm.engine.stream(request) if e.type == "delta") for _ in range(3)]
    assert found == expected
