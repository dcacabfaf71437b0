"""Prompts that begin alike share what was computed, callers that arrive together are computed together; neither
changes a number."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import densecore
from densecore import Ids, Prompt
from tests.golden.fixtures import Pair


@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 129, 300])
def test_a_repeated_prompt_is_found_and_changes_nothing(keeping: Any, plain: Any, small: Pair, length: int) -> None:
    ids = Ids(small.ids(900 + length, length))
    expected = plain.generate(ids, max_tokens=12, ignore_eos=True, logprobs=0)
    first = keeping.generate(ids, max_tokens=12, ignore_eos=True, logprobs=0)
    again = keeping.generate(ids, max_tokens=12, ignore_eos=True, logprobs=0)
    assert first.usage.cached_positions == 0
    # Whole blocks of 64, and never the last position: its state is needed.
    assert again.usage.cached_positions == (length - 1) // 64 * 64
    assert again.usage.positions + again.usage.cached_positions == first.usage.positions
    assert first.ids == again.ids == expected.ids
    assert [t.logprob for t in first.logprobs] == [t.logprob for t in again.logprobs]
    assert [t.logprob for t in expected.logprobs] == [t.logprob for t in again.logprobs]


def test_different_ends_share_their_beginning(keeping: Any, plain: Any, small: Pair) -> None:
    trunk = small.ids(77, 200)
    keeping.prefill(Ids(trunk))
    for end in range(5):
        ids = Ids(trunk + small.ids(end, 10 + 31 * end))
        ours = keeping.score(ids, Ids([3, 4, 5]))
        assert ours.usage.cached_positions == 192
        assert (ours.logprobs == plain.score(ids, Ids([3, 4, 5])).logprobs).all()
    changed = list(trunk)
    changed[70] = (changed[70] + 1) % 400
    assert keeping.score(Ids(changed), Ids([3])).usage.cached_positions == 64


def test_a_list_shares_a_beginning_it_has_just_computed(keeping: Any, plain: Any, small: Pair) -> None:
    trunk = small.ids(78, 700)
    batch = [[Ids(trunk + small.ids(n, 20 + n))] for n in range(9)]
    together = keeping.generate(batch, max_tokens=7, ignore_eos=True)
    assert sum(one.usage.positions for one in together) < 700 + 9 * (64 + 28 + 7) + 512
    for prompt, one in zip(batch, together, strict=True):
        alone = plain.generate(prompt[0], max_tokens=7, ignore_eos=True)
        assert one.ids == alone.ids
        assert one.usage.positions + one.usage.cached_positions == alone.usage.positions


def test_vectors_are_known_by_their_content(keeping: Any, plain: Any, small: Pair) -> None:
    vectors = np.random.default_rng(5).standard_normal((150, small.ours.config.width)).astype(np.float32) * 0.2
    expected = plain.generate(Prompt(vectors), max_tokens=5, ignore_eos=True).ids
    first = keeping.generate(Prompt(vectors), max_tokens=5, ignore_eos=True)
    again = keeping.generate(Prompt(vectors.copy()), max_tokens=5, ignore_eos=True)
    assert (first.usage.cached_positions, again.usage.cached_positions) == (0, 128)
    assert first.ids == again.ids == expected
    vectors[100, 3] += 1e-3
    assert keeping.generate(Prompt(vectors), max_tokens=5).usage.cached_positions == 64


def test_a_conversation_finds_its_own_past(keeping: Any, small: Pair) -> None:
    ids = small.ids(6, 100)
    made = keeping.generate(Ids(ids), max_tokens=60, ignore_eos=True)
    more = keeping.generate(Ids(ids + made.ids + [7]), max_tokens=1, ignore_eos=True)
    assert more.usage.cached_positions == 128


def test_kept_prefixes_make_room_for_work(small: Pair) -> None:
    tight = densecore.Model.load(small.folder, kv="f32", cache_bytes=2 << 20, prefix_bytes=2 << 20)
    for seed in range(40):
        tight.generate(Ids(small.ids(seed, 200)), max_tokens=4, ignore_eos=True)
        assert tight.memory.caches <= tight.memory.caches_allowed


def test_threads_together_answer_as_alone(keeping: Any, plain: Any, small: Pair) -> None:
    """Generating, thinking, scoring and encoding at once, from many threads: every number as if alone."""
    trunk = small.ids(50, 130)
    jobs: list[tuple[str, Ids]] = []
    for n in range(24):
        ids = Ids(trunk[: 70 + n] + small.ids(n, 5 + 17 * (n % 5)))
        jobs.append((("generate", "think", "score", "encode")[n % 4], ids))

    def run(model: Any, kind: str, ids: Ids) -> Any:
        if kind == "generate":
            return model.generate(ids, max_tokens=20, ignore_eos=True, temperature=0.8, seed=len(ids)).ids
        if kind == "think":
            return model.think(ids, 9, ignore_eos=True).vectors.numpy().tobytes()
        if kind == "score":
            return model.score(ids, Ids([9, 8, 7])).logprobs.tobytes()
        return model.encode(ids, layer=2).numpy().tobytes()

    expected = [run(plain, *job) for job in jobs]
    found: list[Any] = [None] * len(jobs)

    def work(n: int) -> None:
        found[n] = run(keeping, *jobs[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == expected
