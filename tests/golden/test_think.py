"""Latent steps against a plain transformers loop over `inputs_embeds`, 32 steps in each mode.

A random network that is fed its own states is chaotic: float32 and float64 part company after some twenty steps, so
no engine could agree to 1e-4. Two tests cover it: every single step of the rich models from the reference's own
vectors, and whole loops of 32 on calmer models, on prompts where float32 and float64 agree ten times more closely
than the tolerance.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

import densecore
from densecore import Ids, Prompt
from tests.golden.fixtures import Pair, close

reference = pytest.importorskip(
    "tests.golden.reference", reason="the reference is the extra `dev`", exc_type=ImportError
)

STEPS = 32
MODES = ["mixture", "state", "token"]


def loop(pair: Pair, mode: str, **options) -> tuple[list[int], np.ndarray, list[int], np.ndarray]:
    """A prompt, and the reference's vectors, winners and next logits, where they are determined in float32."""
    ends, exact = set(pair.ours.eos_ids), copy.deepcopy(pair.theirs).double()
    for seed in range(60):
        ids = pair.ids(100 + seed, 23)
        vectors, chosen, logits = reference.think(pair.theirs, ids, STEPS, mode, **options)
        if ends & set(chosen) or len(set(chosen)) < 4:
            continue
        vectors_exact, chosen_exact, logits_exact = reference.think(exact, ids, STEPS, mode, **options)
        apart = max(np.abs(vectors - vectors_exact).max(), np.abs(logits - logits_exact).max())
        if chosen == chosen_exact and apart <= 1e-5:
            return ids, vectors, chosen, logits
    raise AssertionError("no prompt of sixty has a determined loop without an end token")


@pytest.mark.parametrize("mode", MODES)
def test_thirty_two_steps(calm: Pair, mode: str) -> None:
    ids, vectors, chosen, logits = loop(calm, mode)
    thought = calm.ours.think(Ids(ids), STEPS, mode=mode)
    assert thought.ids == chosen
    assert not thought.stopped
    assert thought.vectors.space == "input"
    close(thought.vectors, vectors)
    assert thought.context.length == len(ids) + STEPS
    follow = reference.log_softmax(logits)
    for target in (0, 17, int(follow.argmax())):
        close(thought.context.score(Ids([target])).logprobs, follow[[target]])
    usage = thought.usage
    assert (usage.prompt_tokens, usage.emitted_tokens, usage.latent_steps) == (len(ids), 0, STEPS)


@pytest.mark.parametrize("mode", MODES)
def test_every_step_of_a_rich_model(pair: Pair, mode: str) -> None:
    """Each of 32 steps starts from the reference's vectors so far, so that no rounding is carried on."""
    ids = pair.ids(90, 23)
    vectors, chosen, _ = reference.think(pair.theirs, ids, STEPS, mode)
    ends = set(pair.ours.eos_ids)
    for step in range(STEPS):
        before = [densecore.Hidden.wrap(vectors[:step], like=pair.ours)] if step else []
        thought = pair.ours.think(Prompt(Ids(ids), *before), 1, mode=mode)
        if chosen[step] in ends:
            assert thought.stopped
            continue
        assert thought.ids == chosen[step : step + 1]
        close(thought.vectors, vectors[step : step + 1])


@pytest.mark.parametrize(("temperature", "top_k"), [(0.5, 3), (2.0, 50), (1.0, 1)])
def test_mixture_settings(calm: Pair, temperature: float, top_k: int) -> None:
    ids, vectors, chosen, _ = loop(calm, "mixture", temperature=temperature, top_k=top_k)
    thought = calm.ours.think(Ids(ids), STEPS, mode="mixture", temperature=temperature, top_k=top_k)
    assert thought.ids == chosen
    close(thought.vectors, vectors)


def test_state_vectors_have_the_mean_norm_of_the_table(pair: Pair) -> None:
    table = reference.embeddings(pair.theirs).detach().numpy()
    thought = pair.ours.think(Ids(pair.ids(3, 9)), 4, mode="state")
    norms = np.linalg.norm(np.asarray(thought.vectors), axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(table, axis=1).mean(), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_given_token_stops(calm: Pair, mode: str) -> None:
    """The winner that stops is not fed back: the vectors before it are the result."""
    ids, vectors, chosen, _ = loop(calm, mode)
    place = next(i for i in range(1, STEPS) if chosen[i] not in chosen[:i])
    thought = calm.ours.think(Ids(ids), STEPS, mode=mode, stop=[chosen[place]])
    assert thought.stopped
    assert len(thought.vectors) == place
    close(thought.vectors, vectors[:place])
    assert thought.context.length == len(ids) + place


def test_the_vectors_replay_as_a_prompt(calm: Pair) -> None:
    """Handing the vectors over is handing the context over: both continue alike."""
    ids, *_ = loop(calm, "mixture")
    thought = calm.ours.think(Ids(ids), 12)
    again = calm.ours.generate([Ids(ids), thought.vectors], max_tokens=12, ignore_eos=True)
    assert again.ids == thought.context.generate(max_tokens=12, ignore_eos=True).ids


def test_think_continues_from_a_context(calm: Pair) -> None:
    ids, vectors, _, _ = loop(calm, "mixture")
    context = calm.ours.prefill(Ids(ids))
    first = context.think(10)
    second = first.context.think(STEPS - 10)
    close(np.concatenate([np.asarray(first.vectors), np.asarray(second.vectors)]), vectors)


def test_a_batch_thinks_as_single(calm: Pair) -> None:
    prompts = [calm.ids(200 + n, n) for n in (3, 11, 6)]
    together = calm.ours.think([[Ids(ids)] for ids in prompts], 8)
    for ids, thought in zip(prompts, together, strict=True):
        alone = calm.ours.think(Ids(ids), 8)
        assert thought.ids == alone.ids
        close(thought.vectors, np.asarray(alone.vectors))
