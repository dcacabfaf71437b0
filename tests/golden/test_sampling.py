"""How tokens are drawn: the whole distribution, streams by place, penalties, bias, ends, several answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import densecore
from tests.golden.fixtures import Pair


def some_ids(pair: Pair, length: int = 12) -> Any:
    return densecore.Ids(pair.ids(int(np.random.default_rng().integers(1 << 30)), length))


@pytest.mark.parametrize("temperature", [0.8, 1.0, 1.7])
def test_draws_follow_the_full_softmax(small: Pair, temperature: float) -> None:
    """Chi-square over bins of ten tokens; of some 50 degrees it is above 130 once in 10^8 runs."""
    prompt, draws = some_ids(small), 4000
    logits = np.asarray(small.ours.logits(prompt))[-1].astype(np.float64) / temperature
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    options: dict[str, Any] = {"max_tokens": 1, "temperature": temperature, "ignore_eos": True, "n": draws}
    found = [g.ids[0] for g in small.ours.generate(prompt, **options)]
    counts = np.bincount(found, minlength=len(chances))
    order = np.argsort(-chances)
    bins = np.array_split(order, 51)
    expected = np.array([chances[b].sum() * draws for b in bins])
    seen = np.array([counts[b].sum() for b in bins])
    chi = float(((seen - expected) ** 2 / np.maximum(expected, 1e-9))[expected > 5].sum())
    assert chi < 130, f"chi-square {chi:.1f}"


@pytest.mark.parametrize("options", [{}, {"top_k": 40}, {"min_p": 0.02, "top_p": 0.9}])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_typical_tokens_are_those_of_transformers(small: Pair, share: float, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="the reference is the extra `dev`")
    from transformers.generation import logits_process as theirs

    prompt, temperature, draws = some_ids(small), 1.2, 3000
    scores = torch.from_numpy(np.asarray(small.ours.logits(prompt))[-1:].astype(np.float64) / temperature)
    chain = [theirs.TopKLogitsWarper(options["top_k"])] if "top_k" in options else []
    chain += [theirs.MinPLogitsWarper(options["min_p"])] if "min_p" in options else []
    chain += [theirs.TopPLogitsWarper(options["top_p"])] if "top_p" in options else []
    for warper in [*chain, theirs.TypicalLogitsWarper(mass=share)]:
        scores = warper(None, scores)
    chances = torch.softmax(scores[0], dim=-1).numpy()
    asked: dict[str, Any] = {"max_tokens": 1, "temperature": temperature, "typical_p": share, "ignore_eos": True}
    found = np.array([g.ids[0] for g in small.ours.generate(prompt, n=draws, **asked, **options)])
    assert (chances[found] > 0).all(), "a token was drawn that is not typical"
    counts = np.bincount(found, minlength=len(chances))
    often = chances * draws > 12
    off = np.abs(counts - chances * draws) / np.sqrt(np.maximum(chances * draws, 1e-9))
    assert off[often].max(initial=0) < 6, "a token is drawn as often as its share says"


def test_equal_prompts_of_a_list_draw_different_streams_and_the_same_again(small: Pair) -> None:
    prompt, seed = some_ids(small), int(np.random.default_rng().integers(1 << 40))
    options: dict[str, Any] = {"max_tokens": 12, "temperature": 1.0, "seed": seed, "ignore_eos": True}
    prompts = [densecore.Prompt(prompt)] * 5
    found = [g.ids for g in small.ours.generate(prompts, **options)]
    assert len({tuple(ids) for ids in found}) == 5
    assert found == [g.ids for g in small.ours.generate(prompts, **options)]
    assert found[0] == small.ours.generate(prompt, **options).ids, "the first draws the seed's own stream"
    assert found == [g.ids for g in small.ours.generate(prompt, n=5, **options)]
    seeds = [seed] * 5
    again = small.ours.generate(prompts, **{**options, "seed": seeds})
    assert len({tuple(g.ids) for g in again}) == 1, "who gives each prompt a seed gets that seed's stream"


def test_several_answers_come_in_lists_of_their_prompts(small: Pair) -> None:
    prompts = [densecore.Prompt(some_ids(small)) for _ in range(3)]
    options: dict[str, Any] = {"max_tokens": 6, "temperature": 1.0, "seed": 5, "n": 4, "ignore_eos": True}
    found = small.ours.generate(prompts, **options)
    assert [len(answers) for answers in found] == [4, 4, 4]
    stream = small.ours.stream(prompts, **options)
    pieces: dict[int, list[int]] = {}
    for event in stream:
        pieces.setdefault(event.index, []).extend(event.ids)
    assert [[g.ids for g in answers] for answers in stream.results()] == [[g.ids for g in a] for a in found]
    assert [pieces[i] for i in range(12)] == [g.ids for answers in found for g in answers]
    context = small.ours.prefill(prompts[0])
    assert len(context.generate(max_tokens=3, n=2)) == 2


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_repetition_penalty_is_that_of_transformers(pair: Pair, penalty: float) -> None:
    torch = pytest.importorskip("torch")
    ids = pair.ids(int(np.random.default_rng().integers(1 << 30)), 20)
    theirs = pair.theirs.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=24, min_new_tokens=24, repetition_penalty=penalty
    )[0, len(ids) :].tolist()
    ours = pair.ours.generate(densecore.Ids(ids), max_tokens=24, repetition_penalty=penalty, min_tokens=24)
    assert ours.ids == theirs
    # In a context the tokens read before count, too.
    context = pair.ours.prefill(densecore.Ids(ids[:15]))
    found = context.generate(densecore.Ids(ids[15:]), max_tokens=24, repetition_penalty=penalty, min_tokens=24)
    assert found.ids == theirs


def test_presence_and_frequency_keep_tokens_from_coming_again(small: Pair) -> None:
    prompt = some_ids(small)
    plain = small.ours.generate(prompt, max_tokens=60, ignore_eos=True).ids
    for name in ("presence_penalty", "frequency_penalty"):
        found = small.ours.generate(prompt, max_tokens=60, ignore_eos=True, **{name: 100.0}).ids
        assert len(set(found)) == 60
        assert found[0] == plain[0]
    assert small.ours.generate(prompt, max_tokens=60, ignore_eos=True, presence_penalty=-100.0).ids == [plain[0]] * 60


def test_bias_ends_and_least_lengths(small: Pair) -> None:
    prompt = some_ids(small)
    generate = small.ours.generate
    assert generate(prompt, max_tokens=3, logit_bias={77: 1000}, ignore_eos=True).ids == [77, 77, 77]
    plain = generate(prompt, max_tokens=8, ignore_eos=True, logprobs=0)
    biased = generate(prompt, max_tokens=1, logit_bias={77: 1000}, logprobs=1, ignore_eos=True)
    assert biased.logprobs[0].top[0][0] == plain.ids[0], "log-probabilities are the model's own"
    stopped = generate(prompt, max_tokens=8, ignore_eos=True, stop_token_ids=[plain.ids[2]])
    first = plain.ids.index(plain.ids[2])
    assert stopped.ids == plain.ids[: first + 1]
    assert stopped.finish_reason == "stop"
    end = small.ours.eos_ids[0]
    bias = {end: 1000.0}
    assert generate(prompt, max_tokens=8, logit_bias=bias).ids == [end]
    late = generate(prompt, max_tokens=8, logit_bias=bias, min_tokens=5)
    assert len(late.ids) == 6
    assert late.ids[-1] == end
    assert not set(late.ids[:5]) & set(small.ours.eos_ids)
    form = densecore.Choice(["yes"])
    assert generate(prompt, max_tokens=20, form=form, min_tokens=20).text == "yes", "a form at its end ends the answer"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"repetition_penalty": 0.0}, "repetition_penalty = 0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty = NaN"),
        ({"presence_penalty": 1e9}, "presence_penalty"),
        ({"frequency_penalty": float("inf")}, "frequency_penalty"),
        ({"logit_bias": {512: 1.0}}, "token id = 512"),
        ({"logit_bias": {1: float("nan")}}, "logit_bias"),
        ({"logit_bias": [1, 2]}, "logit_bias"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens = 9"),
        ({"stop_token_ids": [99999]}, "token id = 99999"),
        ({"stop_token_ids": "12"}, "stop_token_ids"),
        ({"n": 0}, "n = 0"),
        ({"n": 1 << 20}, "n = 1048576"),
        ({"seed": [1, 2]}, "2 seeds"),
    ],
)
def test_bad_options_are_named(small: Pair, options: dict[str, Any], part: str) -> None:
    with pytest.raises(densecore.errors.ArgumentError, match=part.replace("(", r"\(")):
        small.ours.generate("a", **options)
    assert small.ours.generate("a", max_tokens=1).ids
