"""Kept prefixes are shared only among calls of one salt, and a salt changes no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import densecore
from densecore import Ids, Prompt, errors
from tests.golden.fixtures import Pair

SALTS = (None, "a", "b", "a" * 256, "ä")


def found(model: Any, prompt: Any, salt: str | None) -> int:
    count: int = model.generate(prompt, max_tokens=1, cache_salt=salt).usage.cached_positions
    return count


def test_only_the_same_salt_finds_a_prefix(keeping: Any, plain: Any, small: Pair) -> None:
    ids = Ids(small.ids(31, 200))
    expected = plain.generate(ids, max_tokens=12, ignore_eos=True, logprobs=0)
    for salt in SALTS:
        for cached in (0, 192):
            made = keeping.generate(ids, max_tokens=12, ignore_eos=True, logprobs=0, cache_salt=salt)
            assert made.usage.cached_positions == cached, "only what was read with this salt is found"
            assert made.ids == expected.ids
            assert [t.logprob for t in made.logprobs] == [t.logprob for t in expected.logprobs]
    assert keeping.generate(ids, max_tokens=1).usage.cached_positions == 192, "no salt is None"


def test_calls_that_run_together_wait_only_for_their_own_salt(keeping: Any, plain: Any, small: Pair) -> None:
    """A block that one computes is awaited by others that need it: not by those of another salt."""
    ids = Ids(small.ids(32, 300))
    streams = [keeping.stream(ids, max_tokens=5, ignore_eos=True, cache_salt=salt) for salt in SALTS]
    expected = plain.generate(ids, max_tokens=5, ignore_eos=True).ids
    for stream in streams:
        made = stream.result()
        assert (made.ids, made.usage.cached_positions) == (expected, 0)


def test_every_call_that_keeps_prefixes_takes_one(keeping: Any, small: Pair) -> None:
    ids = Ids(small.ids(33, 200))
    calls = {
        "prefill": lambda salt: keeping.prefill(ids, cache_salt=salt) and 0,
        "score": lambda salt: keeping.score(ids, Ids([3]), cache_salt=salt).usage.cached_positions,
        "think": lambda salt: keeping.think(ids, 2, ignore_eos=True, cache_salt=salt).usage.cached_positions,
        "stream": lambda salt: keeping.stream(ids, max_tokens=1, cache_salt=salt).result().usage.cached_positions,
        "generate": lambda salt: found(keeping, ids, salt),
    }
    for name, call in calls.items():
        assert call(name) == 0
        assert found(keeping, ids, name) == 192, f"{name} keeps under its salt"
        assert name == "prefill" or call(name) == 192, f"{name} finds under its salt"
    assert found(keeping, ids, None) == 0


def test_a_context_keeps_the_salt_of_its_prefill(keeping: Any, plain: Any, small: Pair) -> None:
    ids, more = small.ids(34, 200), Ids(small.ids(35, 150))
    context = keeping.prefill(Ids(ids), cache_salt="mine")
    fork = context.fork()
    expected = plain.prefill(Ids(ids))
    for salt in (None, "mine", "other"):
        made = fork.generate(more, max_tokens=6, ignore_eos=True, cache_salt=salt)
        assert made.ids == expected.generate(more, max_tokens=6, ignore_eos=True).ids
        assert made.usage.cached_positions == 200, "what a context holds needs no finding"
    # From its beginning it reads as a prompt does.
    empty = context.fork().truncate(0)
    assert empty.generate(Ids(ids), max_tokens=1).usage.cached_positions == 192
    assert empty.generate(Ids(ids), max_tokens=1, cache_salt="other").usage.cached_positions == 0
    assert empty.think(2, Ids(ids), ignore_eos=True).usage.cached_positions == 192
    assert keeping.prefill(Ids(ids)).truncate(0).generate(Ids(ids), max_tokens=1).usage.cached_positions == 192
    thought = keeping.think(Ids(ids), 2, ignore_eos=True, cache_salt="mine")
    assert thought.context.truncate(0).generate(Ids(ids), max_tokens=1).usage.cached_positions == 192


def test_vectors_are_kept_under_it_too(keeping: Any, plain: Any, small: Pair) -> None:
    vectors = np.random.default_rng(5).standard_normal((150, small.ours.config.width)).astype(np.float32) * 0.2
    prompt = Prompt(vectors, small.ids(36, 20))
    expected = plain.generate(prompt, max_tokens=5, ignore_eos=True).ids
    for salt in ("a", "b"):
        for cached in (0, 128):
            made = keeping.generate(prompt, max_tokens=5, ignore_eos=True, cache_salt=salt)
            assert (made.ids, made.usage.cached_positions) == (expected, cached)


def test_a_list_and_its_answers_share_one(keeping: Any, small: Pair) -> None:
    ids = small.ids(37, 130)
    batch = [[Ids(ids + [n])] for n in range(3)]
    keeping.generate(batch, max_tokens=2, n=2, ignore_eos=True, cache_salt="a")
    assert [found(keeping, prompt[0], "a") for prompt in batch] == [128] * 3
    assert [found(keeping, batch[0][0], salt) for salt in ("b", None)] == [0, 0]


@pytest.mark.parametrize(
    ("salt", "told"),
    [
        ("", "0 bytes"),
        ("s" * 257, "257 bytes"),
        ("ä" * 129, "258 bytes"),
        (7, "int"),
        (b"a", "bytes"),
        ("\ud800", "surrog"),
    ],
)
@pytest.mark.parametrize("call", ["generate", "stream", "score", "prefill", "think"])
def test_a_salt_that_is_none_is_refused_and_not_shown(small: Pair, call: str, salt: Any, told: str) -> None:
    more = {"score": [Ids([4])], "think": [1]}.get(call, [])
    with pytest.raises(errors.ArgumentError, match=f"cache_salt = .*{told}") as error:
        getattr(small.ours, call)(Ids([1, 2, 3]), *more, cache_salt=salt)
    assert not salt or str(salt) not in str(error.value)


def test_dspy_hands_it_on(small: Pair) -> None:
    dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
    from densecore.dspy import DenseEngine, DenseLM

    model = densecore.Model.load(small.folder, kv="f32")
    message = dspy.lm15.Message.user("word " * 100)
    request = dspy.lm15.Request(model="x", messages=(message,), config=dspy.lm15.Config(max_tokens=1))

    def found(engine: Any) -> tuple[bool, bool]:
        """Whether a call finds a prefix, and a stream after it."""
        *_, end = [*engine.stream(request)]
        return bool(engine.complete(request).usage.cache_read_tokens), bool(end.usage.cache_read_tokens)

    for engine in (
        DenseEngine(model),
        DenseEngine(model, cache_salt="mine"),
        DenseLM(model, cache=False, cache_salt="other").copy(temperature=1.0).engine,
    ):
        assert found(engine) == (True, False), "what the stream kept, the call behind it finds"
        assert found(engine) == (True, True)
    named = DenseLM(str(small.folder), cache=False, cache_salt="mine")
    assert "mine" not in str(named.dump_state()), "a saved program holds no secret"
    with pytest.raises(errors.ArgumentError, match="cache_salt"):
        DenseLM(model, cache_salt=5)  # type: ignore[arg-type]
