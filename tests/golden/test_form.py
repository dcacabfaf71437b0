"""Answers of a prescribed form: whatever a small model would rather say, what comes out parses, in any budget."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

import densecore
from densecore import errors
from tests.golden.fixtures import Pair

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "mood": {"enum": ["calm", "merry", "cross"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        "home": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "since": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
            "required": ["city", "since"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "mood", "tags", "home"],
    "additionalProperties": False,
}


def is_person(text: str) -> bool:
    """Whether a text is what the schema says, checked by hand: llguidance must not judge itself."""
    found = json.loads(text)
    return (
        list(found) == ["name", "age", "mood", "tags", "home"]
        and isinstance(found["name"], str)
        and type(found["age"]) is int
        and 0 <= found["age"] <= 130
        and found["mood"] in ("calm", "merry", "cross")
        and len(found["tags"]) <= 5
        and all(isinstance(tag, str) for tag in found["tags"])
        and list(found["home"]) == ["city", "since"]
        and (found["home"]["since"] is None or type(found["home"]["since"]) is int)
    )


def shortest(model: Any, form: densecore.Form) -> int:
    """Tokens the shortest answer takes, as the refusal of one token says."""
    with pytest.raises(errors.ArgumentError) as refused:
        model.generate("a", form=form, max_tokens=1)
    return int(re.findall(r"takes (\d+) tokens", str(refused.value))[0])


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_json_parses_in_every_budget(smol: Any, temperature: float) -> None:
    """From the shortest possible answer on: a budget never cuts one."""
    form = densecore.Json(PERSON)
    least = shortest(smol, form)
    prompts = [[{"role": "user", "content": f"Describe person {i} as JSON."}] for i in range(4)]
    drawn = {"form": form, "temperature": temperature, "seed": int(np.random.default_rng().integers(1 << 30))}
    wholes = smol.generate(prompts, max_tokens=400, **drawn)
    for budget in (least, least + 1, least + 3, least + 10, least + 40, 200):
        for whole, answer in zip(wholes, smol.generate(prompts, max_tokens=budget, **drawn), strict=True):
            assert is_person(answer.text), f"budget {budget}: {answer.text!r}"
            assert len(answer.ids) <= budget
            told = "stop" if answer.text == whole.text else "length"
            assert answer.finish_reason == told, f"budget {budget}: {answer.text!r}, and with room {whole.text!r}"


def test_random_weights_cannot_break_it(small: Pair) -> None:
    """Logits without any sense, over a vocabulary with padding rows and special tokens."""
    form = densecore.Regex(r"[a-c]{2,9}(, [a-c]{2,9}){2}\.")
    for seed in np.random.default_rng().integers(0, 1 << 30, 8).tolist():
        answer = small.ours.generate("a", form=form, max_tokens=60, temperature=2.0, seed=seed)
        assert re.fullmatch(r"[a-c]{2,9}(, [a-c]{2,9}){2}\.", answer.text), f"seed {seed}: {answer.text!r}"


def test_the_likeliest_of_what_is_allowed(small: Pair) -> None:
    """Greedy under a choice of single tokens: the one with the largest logit, as the free logits say."""
    model = small.ours
    logits = model.logits("Natalia sold")[-1]
    tokens = [i for i in range(40, 90) if len(model.detokenize([i])) == 1 and model.detokenize([i]).isalnum()]
    texts = [model.detokenize([i]) for i in tokens]
    answer = model.generate("Natalia sold", form=densecore.Choice(texts), logprobs=0)
    assert answer.text == texts[int(np.argmax(logits[tokens]))]


def test_texts_and_streams_agree(smol: Any) -> None:
    form = densecore.Lark('start: "<<" /[a-z ]{1,40}/ ">>"')
    whole = smol.generate("Say something: ", form=form, max_tokens=40, logprobs=2)
    assert re.fullmatch(r"<<[a-z ]{1,40}>>", whole.text)
    events = list(smol.stream("Say something: ", form=form, max_tokens=40, logprobs=2))
    assert "".join(e.text for e in events) == whole.text
    assert [i for e in events for i in e.ids] == whole.ids
    assert all([t.id for t in e.logprobs] == e.ids for e in events), "each piece has its own"
    assert [t for e in events for t in e.logprobs] == whole.logprobs
    assert events[-1].finish_reason == whole.finish_reason == "stop"


def test_closers_lead_out_of_free_text(smol: Any) -> None:
    """Free text that could hold anything ends in time, because its ending is known."""
    form = densecore.Lark('start: text "\\n\\nAnswer: " /-?[0-9]{1,6}/\ntext: /[^\\n]+/', ["\n\nAnswer: "])
    for budget in (12, 20, 60):
        answer = smol.generate(
            [{"role": "user", "content": "What is 17 + 25? Think first."}], form=form, max_tokens=budget
        )
        assert re.fullmatch(r"[^\n]+\n\nAnswer: -?[0-9]{1,6}", answer.text), f"{budget}: {answer.text!r}"


def test_what_is_forced_fits_or_is_not_begun(smol: Any) -> None:
    """A long choice has no end in few tokens once its first one stands."""
    long = "certainly " + "not " * 300 + "so"
    for seed in np.random.default_rng().integers(0, 1 << 30, 8).tolist():
        found = smol.generate("Say: certainly not", form=densecore.Choice(["a", long]), max_tokens=200, seed=seed,
                              temperature=2.0)  # fmt: skip
        assert found.text == "a", seed
    assert smol.generate("Say: certainly not", form=densecore.Choice(["a", long]), max_tokens=200).text == "a"


def test_an_exit_that_is_text_is_not_taken_for_ever(smol: Any) -> None:
    form = densecore.Lark('start: /[A-Za-z ,.]+/ "!"', ["!"], exits=[" and"])
    prompt = [{"role": "user", "content": "Name the capital of France in one sentence."}]
    found = smol.generate(prompt, form=form, max_tokens=120)
    assert re.fullmatch(r"[A-Za-z ,.]+!", found.text)
    assert " and and" not in found.text
    free = smol.generate(prompt, form=form, max_tokens=40, ignore_eos=True)
    assert re.fullmatch(r"[A-Za-z ,.]+!", free.text)


def test_a_model_that_would_end_goes_on_to_what_is_missing(smol: Any) -> None:
    """It says what it says without a form, and then what the form still asks for, by the first closer that fits."""
    prompt = [{"role": "user", "content": "Name the capital of France in one sentence."}]
    free = smol.generate(prompt, max_tokens=60)
    assert free.finish_reason == "stop"
    lark = 'start: text "\\n\\nSure: " ("yes" | "no")\ntext: /[^\\n]+/'
    held = smol.generate(prompt, form=densecore.Lark(lark, exits=["\n\nSure: "]), max_tokens=200)
    assert held.text in [f"{free.text}\n\nSure: {word}" for word in ("yes", "no")]
    assert held.finish_reason == "stop"


@pytest.mark.parametrize("pattern", ["(a{60})?", "The(, a{80})?", "[a-z ]*(z{60})?"])
@pytest.mark.parametrize("budget", [2, 4, 8])
def test_what_may_end_ends_in_time(smol: Any, pattern: str, budget: int) -> None:
    """The likeliest token begins what could not be finished, and the answer may end where it is."""
    found = smol.generate(
        "Say: The, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", form=densecore.Regex(pattern), max_tokens=budget
    )
    assert re.fullmatch(pattern, found.text)
    assert len(found.ids) <= budget


def test_a_form_among_free_answers(smol: Any) -> None:
    """Callers that share a step keep their own rules; free answers are what they were."""
    import threading

    alone = smol.generate("The capital of France is", max_tokens=12).ids
    found: dict[str, Any] = {}

    def free() -> None:
        found["free"] = smol.generate("The capital of France is", max_tokens=12).ids

    def bound() -> None:
        found["bound"] = smol.generate("Yes or no? ", form=densecore.Choice(["yes", "no"]), max_tokens=12).text

    threads = [threading.Thread(target=one) for one in (free, bound)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert found["free"] == alone
    assert found["bound"] in ("yes", "no")


@pytest.mark.parametrize(
    "form",
    [densecore.Json("{"), densecore.Json({"type": "nonsense"}), densecore.Regex("("), densecore.Lark("start: missing"),
     densecore.Choice([]), densecore.Choice([""])],
    ids=repr,
)  # fmt: skip
def test_bad_forms_are_refused(small: Pair, form: densecore.Form) -> None:
    with pytest.raises(errors.ArgumentError, match="form"):
        small.ours.generate("a", form=form)
    assert small.ours.generate("a", max_tokens=2, ignore_eos=True).ids


@pytest.mark.parametrize("form", ["json", {"type": "string"}, 5])
def test_other_things_are_no_forms(small: Pair, form: Any) -> None:
    with pytest.raises(errors.ArgumentError, match="form"):
        small.ours.generate("a", form=form)
