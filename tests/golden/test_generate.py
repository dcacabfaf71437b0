"""Generation: greedy ids, stop strings, seeds, logprobs, streaming, cancel, usage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import densecore
from densecore import Ids
from tests import tiny
from tests.golden.fixtures import CHAT, Pair, close

reference = pytest.importorskip(
    "tests.golden.reference", reason="the reference is the extra `dev`", exc_type=ImportError
)

FREE = {"ignore_eos": True}


@pytest.mark.parametrize("length", [1, 12, 90])
def test_greedy_ids(pair: Pair, length: int) -> None:
    ids = pair.ids(400 + length, length)
    made = pair.ours.generate(Ids(ids), max_tokens=40, **FREE)
    assert made.ids == reference.greedy(pair.theirs, ids, 40)
    assert made.finish_reason == "length"
    assert made.text == tiny.tokenizer().decode(made.ids, skip_special_tokens=True)


def test_an_end_token_ends(pair: Pair) -> None:
    """Sampling widely meets an end token sooner or later; the text does not show it."""
    ends = set(pair.ours.eos_ids)
    assert {tiny.tokenizer().token_to_id("<|im_end|>"), tiny.tokenizer().token_to_id("<|endoftext|>")} <= ends
    made = pair.ours.generate(Ids(pair.ids(1, 5)), max_tokens=1500, temperature=3.0, seed=5)
    assert made.finish_reason == "stop"
    assert not ends & set(made.ids[:-1])
    assert "<|im_end|>" not in made.text
    assert "<|endoftext|>" not in made.text


def readable_pair(pair: Pair) -> tuple[list[int], list[int], int]:
    """A prompt whose greedy answer has two neighbouring readable tokens after its start, and their place."""
    for seed in range(60):
        ids = pair.ids(500 + seed, 15)
        made = reference.greedy(pair.theirs, ids, 60)
        texts = [tiny.tokenizer().decode([number]) for number in made]
        for place in range(3, 58):
            text = texts[place] + texts[place + 1]
            if text.isascii() and text.isprintable() and texts[place].strip() and texts[place + 1].strip():
                return ids, made, place
    raise AssertionError("no readable neighbours in sixty answers")


def test_a_stop_string_within_and_across_tokens(pair: Pair) -> None:
    ids, made, place = readable_pair(pair)
    one, two = (tiny.tokenizer().decode([number]) for number in made[place : place + 2])
    whole = tiny.tokenizer().decode(made, skip_special_tokens=True)
    for stop in (one, one[-1] + two[0], two):
        got = pair.ours.generate(Ids(ids), max_tokens=60, stop=[stop, "never to be seen"], **FREE)
        assert got.finish_reason == "stop"
        assert got.text == whole[: whole.index(stop)], f"stop {stop!r} in {whole!r}"
        assert got.ids == made[: len(got.ids)]
        events = list(pair.ours.stream(Ids(ids), max_tokens=60, stop=[stop], **FREE))
        assert "".join(event.text for event in events) == got.text, "no part of a stop string is streamed"


def test_a_stop_string_that_never_comes_holds_nothing_back(pair: Pair) -> None:
    ids = pair.ids(2, 10)
    free = pair.ours.generate(Ids(ids), max_tokens=30, **FREE)
    held = pair.ours.generate(Ids(ids), max_tokens=30, stop=[free.text[-1] + "\x00 no"], **FREE)
    assert (held.text, held.ids, held.finish_reason) == (free.text, free.ids, "length")


def test_a_seed_repeats_and_another_differs(pair: Pair) -> None:
    ids = Ids(pair.ids(3, 10))
    options = {"max_tokens": 40, "temperature": 1.0, **FREE}
    first = pair.ours.generate(ids, seed=11, **options)
    assert pair.ours.generate(ids, seed=11, **options).ids == first.ids
    assert pair.ours.generate(ids, seed=12, **options).ids != first.ids
    assert pair.ours.generate(ids, seed=11, **options, top_k=1).ids == reference.greedy(
        pair.theirs, pair.ids(3, 10), 40
    )


def test_sampling_follows_the_distribution(small: Pair) -> None:
    """4,000 draws of one token: frequencies within five standard errors of the softmax, filters obeyed."""
    ids, draws = small.ids(4, 8), 4000
    logits = reference.forward(small.theirs, ids)[0][-1]
    expected = np.exp(reference.log_softmax(logits / 0.8))
    context = small.ours.prefill(Ids(ids))
    drawn = [context.fork().generate(max_tokens=1, temperature=0.8, seed=n, **FREE).ids[0] for n in range(draws)]
    seen = np.bincount(drawn, minlength=tiny.VOCAB) / draws
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(seen - expected) <= 5 * error + 2 / draws).all()
    best = set(np.argsort(-expected)[:5].tolist())
    few = [context.fork().generate(max_tokens=1, temperature=2.0, top_k=5, seed=n, **FREE).ids[0] for n in range(300)]
    assert set(few) <= best
    order = np.argsort(-expected)
    nucleus = set(order[: int(np.searchsorted(np.cumsum(expected[order]), 0.3)) + 1].tolist())
    most = [
        context.fork().generate(max_tokens=1, temperature=0.8, top_p=0.3, seed=n, **FREE).ids[0] for n in range(300)
    ]
    assert set(most) <= nucleus


def test_logprobs_are_the_log_softmax(pair: Pair) -> None:
    ids = pair.ids(5, 20)
    made = pair.ours.generate(Ids(ids), max_tokens=12, logprobs=4, **FREE)
    logits, _ = reference.forward(pair.theirs, ids + made.ids)
    expected = reference.log_softmax(logits)[len(ids) - 1 : -1]
    close([entry.logprob for entry in made.logprobs], expected[np.arange(12), made.ids])
    for entry, row in zip(made.logprobs, expected, strict=True):
        assert [number for number, _ in entry.top] == np.argsort(-row)[:4].tolist()
        close([value for _, value in entry.top], np.sort(row)[::-1][:4])


def test_no_logprobs_unless_asked(pair: Pair) -> None:
    assert not pair.ours.generate(Ids(pair.ids(5, 20)), max_tokens=2, **FREE).logprobs
    assert all(event.logprobs is None for event in pair.ours.stream(Ids(pair.ids(5, 20)), max_tokens=2, **FREE))


@pytest.mark.parametrize("seed", range(6))
def test_the_stream_is_the_text(pair: Pair, seed: int) -> None:
    """Random ids are full of broken characters: every piece is whole, and the pieces are the text."""
    options = {"max_tokens": 60, "temperature": 1.5, "seed": seed, "logprobs": seed, **FREE}
    stream = pair.ours.stream(Ids(pair.ids(seed, 6)), **options)
    events = list(stream)
    result = stream.result()
    assert "".join(event.text for event in events) == result.text
    assert [number for event in events for number in event.ids] == result.ids
    assert [token for event in events for token in event.logprobs] == result.logprobs
    whole = pair.ours.generate(Ids(pair.ids(seed, 6)), **options)
    assert (result.text, result.ids) == (whole.text, whole.ids)


def test_cancel_keeps_what_was_made(small: Pair) -> None:
    cancel = densecore.Cancel()
    stream = small.ours.stream(Ids(small.ids(6, 4)), max_tokens=1900, cancel=cancel, **FREE)
    for _ in range(3):
        next(stream)
    cancel.cancel()
    made = stream.result()
    assert made.finish_reason == "cancelled"
    assert 3 <= len(made.ids) < 1900
    assert small.ours.generate(Ids(small.ids(6, 4)), max_tokens=3, **FREE).ids == made.ids[:3]


def test_a_stream_stops_itself_and_nothing_else(small: Pair) -> None:
    """Dropped, left or finished, a stream leaves the request it was given as it was."""
    cancel = densecore.Cancel()
    small.ours.stream("a", max_tokens=2, cancel=cancel, **FREE).result()
    with small.ours.stream("a", max_tokens=1900, cancel=cancel, **FREE) as stream:
        next(stream)
    assert not cancel.cancelled
    assert small.ours.generate("a", max_tokens=3, cancel=cancel, **FREE).finish_reason == "length"


@pytest.mark.parametrize("call", ["prefill", "encode", "think", "score", "logits"])
def test_other_calls_cancelled_raise(small: Pair, call: str) -> None:
    cancel = densecore.Cancel()
    cancel.cancel()
    more = {"think": (3,), "score": (Ids([1]),)}.get(call, ())
    with pytest.raises(densecore.errors.GenerationCancelled):
        getattr(small.ours, call)(Ids([1, 2, 3]), *more, cancel=cancel)


def test_cancelled_before_the_start(small: Pair) -> None:
    cancel = densecore.Cancel()
    cancel.cancel()
    made = small.ours.generate(Ids(small.ids(6, 4)), max_tokens=50, cancel=cancel, **FREE)
    assert (made.finish_reason, made.ids, made.text) == ("cancelled", [], "")


@pytest.mark.parametrize("form", [None, densecore.Regex("[a-z]{3,9}")], ids=["free", "form"])
@pytest.mark.parametrize("prompt", [densecore.Prompt(Ids([1, 2, 3])), densecore.Chat(CHAT)], ids=["ids", "chat"])
def test_cancelled_before_the_start_whatever_is_asked(small: Pair, prompt: Any, form: densecore.Form | None) -> None:
    """A template that has not run and a form that is not compiled are no reason for another end."""
    cancel = densecore.Cancel()
    cancel.cancel()
    more: dict[str, Any] = {"max_tokens": 50, "cancel": cancel, "form": form}
    context = small.ours.prefill(Ids([4, 5, 6]))
    for answers in (
        [small.ours.generate(prompt, **more)],
        [small.ours.stream(prompt, **more).result()],
        [context.generate(prompt, **more)],
        small.ours.generate([prompt, prompt], **more),
        small.ours.generate(prompt, n=3, **more),
    ):
        assert [(made.finish_reason, made.ids, made.text) for made in answers] == [("cancelled", [], "")] * len(answers)
        assert all(made.usage.positions == 0 for made in answers)
    events = list(small.ours.stream(prompt, **more))
    assert [event.finish_reason for event in events] == ["cancelled"]


def test_leaving_a_stream_early_frees_the_model(small: Pair) -> None:
    stream = small.ours.stream(Ids(small.ids(7, 4)), max_tokens=1900, **FREE)
    next(iter(stream))
    del stream
    assert small.ours.generate(Ids(small.ids(7, 4)), max_tokens=5, **FREE).ids


def test_decode_continues_from_vectors(pair: Pair) -> None:
    ids = pair.ids(8, 14)
    expected = reference.greedy(pair.theirs, ids, 10, tuple(pair.ours.eos_ids))
    text = pair.ours.decode(pair.ours.embed(Ids(ids)), max_tokens=10)
    assert text == tiny.tokenizer().decode(expected, skip_special_tokens=True)


def test_usage_counts(pair: Pair) -> None:
    ids = pair.ids(9, 37)
    usage = pair.ours.generate(Ids(ids), max_tokens=6, **FREE).usage
    assert (usage.prompt_tokens, usage.emitted_tokens, usage.latent_steps) == (37, 6, 0)
    assert usage.positions + usage.cached_positions in (37 + 5, 37 + 6)  # the last id need not be fed back
    assert usage.seconds > 0


def test_messages_and_a_ragged_list(pair: Pair) -> None:
    chat = pair.ours.generate(CHAT, max_tokens=8, **FREE)
    ids = pair.ours.tokenize(pair.ours.apply_chat_template(CHAT), special=True)
    assert chat.ids == reference.greedy(pair.theirs, ids, 8)
    texts = ["Natalia sold", "a", "The engine reads text, makes tokens"]
    for text, made in zip(texts, pair.ours.generate(texts, max_tokens=8, **FREE), strict=True):
        assert made.ids == reference.greedy(pair.theirs, pair.ours.tokenize(text), 8)
