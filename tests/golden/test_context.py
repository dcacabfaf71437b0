"""Batch = single, cached = uncached, chunked = whole, fork = replay; contexts survive export."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from densecore import Ids, Prompt
from tests.golden.fixtures import Pair, close

reference = pytest.importorskip(
    "tests.golden.reference", reason="the reference is the extra `dev`", exc_type=ImportError
)


def follow(pair: Pair, context, ids: list[int]) -> None:
    """The context must continue as the plain model does after `ids`: logprobs of a target, then the greedy ids."""
    target = pair.ids(77, 9)
    logits, _ = reference.forward(pair.theirs, ids + target)
    expected = reference.log_softmax(logits)[len(ids) - 1 : -1][np.arange(len(target)), target]
    assert context.length == len(ids)
    close(context.score(Ids(target)).logprobs, expected)
    assert context.length == len(ids), "scoring leaves the context as it was"


def test_batch_equals_single(pair: Pair) -> None:
    prompts = [pair.ids(n, n) for n in (1, 33, 7, 150, 64, 2)]
    batch = [[Ids(ids)] for ids in prompts]
    for ids, logits, states in zip(prompts, pair.ours.logits(batch), pair.ours.encode(batch), strict=True):
        close(logits, reference.forward(pair.theirs, ids)[0])
        close(states, np.asarray(pair.ours.encode(Ids(ids))))


def test_batch_generates_as_single(pair: Pair) -> None:
    prompts = [pair.ids(300 + n, n) for n in (5, 40, 12, 3, 21)]
    together = pair.ours.generate([[Ids(ids)] for ids in prompts], max_tokens=20, ignore_eos=True)
    for ids, made in zip(prompts, together, strict=True):
        assert made.ids == reference.greedy(pair.theirs, ids, 20)


def test_cached_equals_uncached(pair: Pair) -> None:
    ids = pair.ids(4, 120)
    whole, _ = reference.forward(pair.theirs, ids)
    for cut in (1, 63, 64, 119):
        context = pair.ours.prefill(Ids(ids[:cut]))
        rest = context.score(Ids(ids[cut:]), top=0).logprobs
        expected = reference.log_softmax(whole)[cut - 1 : -1][np.arange(len(ids) - cut), ids[cut:]]
        close(rest, expected)


@pytest.mark.parametrize("piece", [1, 7, 64, 100])
def test_chunked_equals_whole(pair: Pair, piece: int) -> None:
    ids = pair.ids(5, 210)
    context = pair.ours.prefill(Ids(ids[:piece]))
    for start in range(piece, len(ids), piece):
        context.extend(Ids(ids[start : start + piece]))
    follow(pair, context, ids)


def test_extend_takes_text_and_vectors(pair: Pair) -> None:
    ids = pair.ours.tokenize("Natalia sold")
    context = pair.ours.prefill(Ids(ids))
    context.extend(Prompt(" clips", pair.ours.embed(" to her friends")))
    tail = pair.ours.tokenize(" clips") + pair.ours.tokenize(" to her friends")
    follow(pair, context, ids + tail)


def test_fork_equals_replay_and_stays_apart(pair: Pair) -> None:
    ids, left, right = pair.ids(6, 50), pair.ids(7, 9), pair.ids(8, 31)
    trunk = pair.ours.prefill(Ids(ids))
    one, two = trunk.fork(), trunk.fork()
    one.extend(Ids(left))
    two.extend(Ids(right))
    follow(pair, one, ids + left)
    follow(pair, two, ids + right)
    follow(pair, trunk, ids)
    del trunk
    follow(pair, one, ids + left)


def test_truncate_takes_back(pair: Pair) -> None:
    ids, wrong, right = pair.ids(9, 60), pair.ids(10, 20), pair.ids(11, 20)
    context = pair.ours.prefill(Ids(ids))
    context.extend(Ids(wrong))
    context.truncate(len(ids))
    context.extend(Ids(right))
    follow(pair, context, ids + right)


def test_truncate_then_score_at_once(pair: Pair) -> None:
    """After a cut the next logits are those of the shorter prefix, though nothing was added since."""
    ids = pair.ids(12, 60)
    context = pair.ours.prefill(Ids(ids))
    context.truncate(41)
    follow(pair, context, ids[:41])


def test_export_and_import(pair: Pair, tmp_path) -> None:
    ids = pair.ids(13, 90)
    context = pair.ours.prefill(Ids(ids))
    follow(pair, pair.ours.import_context(context.export()), ids)
    assert context.export(tmp_path / "context.bin") is None
    follow(pair, pair.ours.import_context(tmp_path / "context.bin"), ids)


def test_generating_leaves_the_context_as_it_was(pair: Pair) -> None:
    ids = pair.ids(14, 30)
    context = pair.ours.prefill(Ids(ids))
    made = context.generate(max_tokens=10, ignore_eos=True)
    assert made.ids == reference.greedy(pair.theirs, ids, 10)
    assert context.length == 30
    assert context.generate(max_tokens=10, ignore_eos=True).ids == made.ids


def test_score_equals_teacher_forcing(pair: Pair) -> None:
    ids, target = pair.ids(15, 45), pair.ids(16, 33)
    logits, _ = reference.forward(pair.theirs, ids + target)
    expected = reference.log_softmax(logits)[len(ids) - 1 : -1][np.arange(len(target)), target]
    score = pair.ours.score(Ids(ids), Ids(target))
    assert list(score.ids) == target
    close(score.logprobs, expected)
    assert abs(score.total - expected.sum()) <= 1e-3
    assert score.usage.emitted_tokens == 0


def test_a_thought_of_a_context_can_be_cut_back(pair: Pair) -> None:
    """A thought's context knows all it stands on: the context's own past, the prompt, the vectors."""
    ids = pair.ids(21, 10)
    thought = pair.ours.prefill(Ids(ids)).think(4, ignore_eos=True)
    assert thought.context.length == 14
    thought.context.truncate(12)
    prompt = Prompt(Ids(ids), thought.vectors[:2])
    expected = pair.ours.generate(prompt, max_tokens=6, ignore_eos=True).ids
    assert thought.context.generate(max_tokens=6, ignore_eos=True).ids == expected


def test_reading_a_context_while_it_grows(small: Pair) -> None:
    """Nobody waits for the interpreter while holding the context, and nobody for the context while holding it."""
    context = small.ours.prefill(Ids(small.ids(1, 10)))
    done = threading.Event()

    def grow() -> None:
        for n in range(6):
            context.extend(Ids(small.ids(n, 300)))
        done.set()

    writer = threading.Thread(target=grow, daemon=True)
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(context.length)
        context.fork()
    writer.join(60)
    assert done.is_set()
    assert seen <= {10 + 300 * n for n in range(7)}
    assert context.length == 1810
