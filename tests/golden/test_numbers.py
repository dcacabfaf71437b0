"""Numbers that go wrong: a named error for the sequence concerned, and the right answers for its company."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densecore
from densecore.errors import NumericError
from tests import tiny

BAD = 200  # the token whose row is spoilt


def spoilt(folder: Path, name: str, change: Callable[[Any], None], **load: Any) -> Any:
    """A tiny model with something wrong in one tensor."""
    from safetensors.numpy import load_file, save_file

    tiny.make_tiny("qwen2", folder, seed=9, tied=False)
    path = folder / "model.safetensors"
    tensors = {key: value.copy() for key, value in load_file(path).items()}
    change(tensors[name])
    save_file(tensors, path, {"format": "pt"})
    return densecore.Model.load(folder, **load)


@pytest.fixture(scope="module", params=[float("nan"), float("inf")])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One whose token BAD has a component that is no number; nothing is found at load, for nothing is scanned."""

    def change(tensor: Any) -> None:
        tensor[BAD, 3] = request.param

    return spoilt(tmp_path_factory.mktemp("spoilt"), "model.embed_tokens.weight", change, kv="f32")


def ids(length: int, bad: bool) -> densecore.Ids:
    drawn = np.random.default_rng().integers(0, BAD, length).tolist()
    if bad:
        drawn[length // 2] = BAD
    return densecore.Ids(drawn)


def test_one_sequence_fails_and_its_company_is_right(model: Any) -> None:
    prompts = [densecore.Prompt(ids(30, bad=i in (1, 4))) for i in range(6)]
    ban = {"logit_bias": {BAD: -1000.0}, "max_tokens": 10, "ignore_eos": True}
    found = model.generate(prompts, **ban)
    for i, (prompt, answer) in enumerate(zip(prompts, found, strict=True)):
        if i in (1, 4):
            assert answer.finish_reason == "error"
            assert isinstance(answer.error, NumericError)
            with pytest.raises(NumericError, match="went wrong"):
                model.generate(prompt, **ban)
            with pytest.raises(NumericError):
                list(model.stream(prompt, **ban))
        else:
            assert answer.error is None
            assert answer.ids == model.generate(prompt, **ban).ids


def test_each_answer_to_a_prompt_that_fails_says_so(model: Any) -> None:
    """One reads it for all; where its numbers go wrong nobody waits for it."""
    ban = {"logit_bias": {BAD: -1000.0}, "max_tokens": 10, "ignore_eos": True, "n": 3}
    good, bad = (densecore.Prompt(ids(30, bad=bad)) for bad in (False, True))
    found = model.generate([bad, good], **ban)
    assert [each.finish_reason for each in found[0]] == ["error"] * 3
    assert all(isinstance(each.error, NumericError) for each in found[0])
    assert [each.ids for each in found[1]] == [model.generate(good, **{**ban, "n": 1}).ids] * 3


def test_other_calls_name_the_place(model: Any) -> None:
    prompts = [densecore.Prompt(ids(20, bad=i == 2)) for i in range(4)]
    for call in (model.encode, model.prefill, lambda p: model.think(p, 2), lambda p: model.score(p, [[1, 2]] * 4)):
        with pytest.raises(NumericError, match="number 2 of the list"):
            call(prompts)
    with pytest.raises(NumericError):
        model.think(prompts[2], 1)
    context = model.prefill(prompts[0])
    with pytest.raises(NumericError):
        context.extend(prompts[2])
    assert context.length == 20
    assert context.generate(max_tokens=4, logit_bias={BAD: -1000.0}).ids


def test_other_callers_are_not_touched(model: Any) -> None:
    ban = {"logit_bias": {BAD: -1000.0}, "max_tokens": 12, "ignore_eos": True}
    good = [densecore.Prompt(ids(25, bad=False)) for _ in range(4)]
    alone = [model.generate(p, **ban).ids for p in good]
    found: dict[int, Any] = {}

    def ask(i: int) -> None:
        found[i] = [model.generate(good[i], **ban).ids for _ in range(8)]

    def spoil() -> None:
        for _ in range(20):
            with pytest.raises(NumericError):
                model.generate(ids(25, bad=True), **ban)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)] + [threading.Thread(target=spoil)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(4)] == [[a] * 8 for a in alone]


def test_a_spoilt_beginning_is_not_kept(model: Any) -> None:
    """A block of a sequence that failed serves nobody."""
    trunk = ids(150, bad=True)
    for _ in range(3):
        with pytest.raises(NumericError):
            model.generate(trunk, max_tokens=2)


def test_a_head_that_is_no_number(tmp_path: Path) -> None:
    def change(tensor: Any) -> None:
        tensor[7, 0] = np.nan

    model = spoilt(tmp_path, "lm_head.weight", change)
    with pytest.raises(NumericError, match="logit of token 7"):
        model.generate("a", max_tokens=2)
    assert model.encode("a").shape[0] == 1


def test_keys_beyond_what_f16_holds(tmp_path: Path) -> None:
    def change(tensor: Any) -> None:
        tensor[0] = 1e6

    model = spoilt(tmp_path, "model.layers.1.self_attn.k_proj.bias", change, kv="f16")
    for call in (lambda: model.generate("ab", max_tokens=2), lambda: model.encode("ab"), lambda: model.prefill("ab")):
        with pytest.raises(NumericError, match=r"position 0 in layer 1.*kv=\"f32\""):
            call()
    wide = densecore.Model.load(tmp_path, kv="f32")
    assert wide.generate("ab", max_tokens=2).ids
    with pytest.raises(densecore.errors.StateError, match="beyond what f16 holds"):
        model.import_context(wide.prefill("ab").export())
