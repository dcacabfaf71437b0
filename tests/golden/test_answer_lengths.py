"""How long answers under a form get: nothing is cut in silence, and what follows a long text has room."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import numpy as np
import pydantic
import pytest

import densecore
from densecore import Lark, errors
from densecore.forms import response
from tests.golden.fixtures import Pair
from tests.golden.signatures import ask, asking, is_text

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")
fields = pytest.importorskip("densecore.dspy.fields", reason="the extra `dspy`")


pytestmark = pytest.mark.usefixtures("no_cache_on_disk")


def test_every_budget_closes(small: Pair) -> None:
    """From the shortest answer on; less is refused, with the number that would do."""
    asked = asking(dict[str, list[dt.date]], thought=True)
    with pytest.raises(Exception, match="max_tokens = 8: an answer of this form takes") as refused:
        ask(small.ours, asked, 8)
    least = int(re.findall(r"takes (\d+) tokens", str(refused.value))[0])
    for budget in (least, least + 1, least + 7, least + 60):
        seed = int(np.random.default_rng().integers(1 << 30))
        assert is_text(ask(small.ours, asked, budget, seed).thought), f"budget {budget}, seed {seed}"


def test_a_long_thought_leaves_room(small: Pair) -> None:
    """Random weights do not stop of themselves: what follows is drawn all the same, not the shortest that closes."""
    asked = dspy.Signature("question -> thought, value: list[int], word: Literal['yes', 'no', 'perhaps']")
    seeds = np.random.default_rng().integers(0, 1 << 30, 16).tolist()
    found = [ask(small.ours, asked, 450, seed) for seed in seeds]
    assert len({f.word for f in found}) > 1, seeds
    assert len({str(f.value) for f in found}) > 1, seeds
    assert min(len(small.ours.tokenize(f.thought)) for f in found) < 450 - fields.ROOM_JSON


def test_a_text_of_bounded_length_has_room_behind_a_thought(wide: Any) -> None:
    """Though each of its characters is a token, as are those of markers, and the thought before it would go on for ever."""
    asked = dspy.Signature("question -> t").append("n", dspy.OutputField(max_length=120), str)
    form, _ = fields.grammar(asked, {}, 320)
    for seed in np.random.default_rng().integers(0, 1 << 30, 12).tolist():
        found = wide.generate("a", form=form, max_tokens=320, temperature=1.0, seed=seed)
        assert found.finish_reason == "stop", (seed, found.text)


def blunt(form: Lark) -> Lark:
    """The same without exits, as forms are that look for no place to end."""
    return Lark(form.texts[0], [*form.exits, *form.texts[1:]])


def test_truncation_is_reported(smol: Any) -> None:
    """What used up its tokens was cut, though its form is whole; what ended itself was not."""

    def finish(signature: Any, most: int, asked: str = "Tell a very long story.", made: Any = blunt) -> str:
        lm = bridge.DenseLM(smol, max_tokens=most, cache=False)
        form, capped = fields.grammar(signature, {}, most)
        lm(asked, response_format=response.wrap(made(form), capped))
        return str(lm.history[-1]["response"].finish_reason)

    thought = dspy.Signature("question -> thought, word: Literal['a', 'b']")
    assert finish(dspy.Signature("question -> story"), 24) == "length"
    parts = {"question": (str, dspy.InputField()), "story": (list[str], dspy.OutputField(min_length=1))}
    assert finish(dspy.Signature(parts, "Tell it."), 24) == "length"
    assert finish(dspy.Signature("question -> story: list[str]"), 24) == "stop", "it says nothing, and says so"
    assert finish(thought, 60) == "length"
    assert finish(thought, 200, "Say hi.", lambda form: form) == "stop"
    assert finish(dspy.Signature("question -> word: Literal['a', 'b']"), 60) == "stop"
    asked = dspy.lm15.Request(model="x", messages=(dspy.lm15.Message.user("Tell a very long story."),),
                              config=dspy.lm15.Config(max_tokens=9))  # fmt: skip
    assert bridge.DenseEngine(smol).complete(asked).finish_reason == "length"


def test_long_texts_end_with_a_sentence(smol: Any) -> None:
    """Mostly: in time for what must follow, where its model minds an end least."""
    asked = [
        [{"role": "user", "content": text}]
        for text in ("Tell a very long story.", "Describe a harbour in detail.", "Explain how bread is made.",
                     "What is a violin, and how is it played?", "Tell me all about whales.", "Why is the sky blue?")
    ]  # fmt: skip
    form, capped = fields.grammar(dspy.Signature("question -> thought, word: Literal['a', 'b']"), {}, 160)
    frees, whole = smol.generate(asked, max_tokens=160), 0
    for free, found in zip(frees, smol.generate(asked, form=form, max_tokens=160), strict=True):
        text = re.fullmatch(r"\[\[ ## thought ## ]]\n(.*)\n\n\[\[ ## word ## ]]\n[ab]", found.text, re.DOTALL)
        assert text, found.text
        assert found.finish_reason == "stop"
        assert not response.was_cut(response.wrap(form, capped)["json_schema"], found, smol)
        assert len(smol.tokenize(text[1])) <= len(free.ids)
        assert found.shortened == 1, "its model would have gone on"
        whole += text[1].endswith((".", "!", "?"))
    assert whole > len(asked) / 2


def test_it_is_told_that_a_text_was_shortened(smol: Any) -> None:
    lm = bridge.DenseLM(smol, max_tokens=160, cache=False)
    form = response.wrap(*fields.grammar(dspy.Signature("question -> thought, word: Literal['a', 'b']"), {}, 160))
    config = dspy.lm15.Config(max_tokens=160, response_format={"type": "json_schema", **form["json_schema"]})
    told = []
    for asked in ("Tell a very long story.", "Say hi."):
        lm(asked, response_format=form)
        told.append(lm.history[-1]["response"].provider_data)
        request = dspy.lm15.Request(model=lm.model, messages=(dspy.lm15.Message.user(asked),), config=config)
        assert list(lm.engine.stream(request))[-1].provider_data == told[-1]
    assert told == [{"shortened": 1}, None]


def test_the_end_of_a_stretch_is_refused_where_it_makes_no_sense() -> None:
    for stretch in (0, -1, True, 1.5, "7"):
        with pytest.raises(errors.ArgumentError, match="stretch"):
            Lark("start: /a/", stretch=stretch)


@pytest.mark.parametrize("most", [120, 200, 320])
def test_a_text_at_its_cap_was_cut(wide: Any, most: int) -> None:
    """A text has ended where its model ended it, or has just as many tokens as it may have, and then that is said."""
    asked = dspy.Signature("question -> thought, word: Literal['a', 'b']")
    form, capped = fields.grammar(asked, {}, most)
    seen = set()
    for seed in np.random.default_rng().integers(0, 1 << 30, 12).tolist():
        for kind in (form, blunt(form)):
            text = wide.generate("a", form=kind, max_tokens=most, temperature=1.0, seed=seed)
            tokens = response._tokens(text, "thought", wide)
            cut = response.was_cut(response.wrap(kind, capped)["json_schema"], text, wide)
            assert tokens <= capped["thought"], (seed, text.text)
            assert cut == (tokens == capped["thought"]) or text.finish_reason == "length", (seed, text.text)
            seen.add((bool(kind.exits), cut))
    assert (True, False) in seen, "most random models draw an end or a place for one"
    assert (False, True) in seen


@pytest.mark.parametrize(
    ("outputs", "first"),
    [
        ("thought, note: Optional[str], score: int", "score"),  # what may be left out is not gone to
        ("thought: Annotated[str, pydantic.Field(max_length=300)], score: int", "score"),
        ("thought, code: dspy.Code, score: int", "code"),
    ],
)
def test_an_early_end_leads_to_the_next_field(smol: Any, outputs: str, first: str) -> None:
    """And is written as nothing else: no fence of code stands in a text."""
    kinds: dict[str, Any] = {"Optional[str]": str | None, "int": int, "dspy.Code": dspy.Code}
    parts: dict[str, Any] = {"question": (str, dspy.InputField())}
    for each in outputs.split(", "):
        name, _, kind = each.partition(": ")
        bound = {"max_length": 300} if "max_length" in kind else {}
        parts[name] = (kinds.get(kind, str), dspy.OutputField(**bound))
    form, _ = fields.grammar(dspy.Signature(parts, "Answer."), {}, 400)
    prompt = [{"role": "user", "content": "Name the capital of France in one sentence."}]
    free = smol.generate(prompt, max_tokens=60)
    held = smol.generate(prompt, form=form, max_tokens=400, logprobs=0)
    text = re.match(r"\[\[ ## thought ## ]]\n(.*?)\n+\[\[ ## (\w+) ## ]]\n", held.text, re.DOTALL)
    assert text, held.text
    assert text[2] == first, held.text
    assert "```" not in text[1], held.text
    assert len(text[1]) < 4 * len(free.text), "it ended where its model did, more or less"
    marker = len(smol.tokenize(f"[[ ## {first} ## ]]"))
    assert sum(each.logprob == 0 for each in held.logprobs or []) >= marker, "an exit is not drawn"


# ---- nothing is cut in silence ----

STORY = {
    "type": "object",
    "properties": {"story": {"type": "string"}},
    "required": ["story"],
    "additionalProperties": False,
}


def leaning(model: Any, *texts: str, by: float = 8.0) -> dict[int, float]:
    """Biases towards some tokens, for random weights."""
    found = {}
    for text in texts:
        (token,) = model.tokenize(text)
        found[token] = by
    return found


@pytest.fixture
def lean(wide: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the model lean towards some texts, whoever asks it."""
    real = densecore.Model.generate

    def towards(*texts: str, by: float = 8.0) -> None:
        bias = leaning(wide, *texts, by=by)
        monkeypatch.setattr(
            densecore.Model, "generate", lambda self, *given, **more: real(self, *given, **more, logit_bias=bias)
        )

    return towards


def held(way: str, model: Any, seed: int, max_tokens: int) -> tuple[str, str]:
    """A story told in a JSON string, and the finish reason, through one of the ways that lead to JSON."""
    lm = bridge.DenseLM(model, temperature=1.0, max_tokens=max_tokens, cache=False, seed=seed)
    if way == "Json":
        found = model.generate("a", form=densecore.Json(STORY), max_tokens=max_tokens, temperature=1.0, seed=seed)
        return json.loads(found.text)["story"], found.finish_reason
    if way == "response_format":
        schema = {"type": "json_schema", "json_schema": {"name": "story", "schema": STORY}}
        text = json.loads(lm("Tell it.", response_format=schema)[0])["story"]
    elif way == "DenseAdapter":
        with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
            asked = dspy.Signature({"q": (str, dspy.InputField()), "stories": (Story, dspy.OutputField())}, "Tell it.")
            text = dspy.Predict(asked)(q="?").stories.story
    else:
        adapter = dspy.JSONAdapter() if way == "JSONAdapter" else Fallback()
        with dspy.context(lm=lm, adapter=adapter):
            text = dspy.Predict("q -> story")(q="?").story
    return text, str(lm.history[-1]["response"].finish_reason)


class Story(pydantic.BaseModel):
    story: str


class Fallback(dspy.ChatAdapter):
    """Whose answers in chat never parse, so that JSON is asked for."""

    def parse(self, signature: Any, completion: str) -> Any:
        raise dspy.utils.exceptions.AdapterParseError("ChatAdapter", signature, completion)


WAYS = ["Json", "response_format", "JSONAdapter", "fallback", "DenseAdapter"]


@pytest.mark.parametrize("way", WAYS)
def test_long_strings_arrive_whole(wide: Any, lean: Any, way: str) -> None:
    """Five thousand characters, where the tokens allow."""
    lean(" altogether", by=6.5)
    for seed in range(12):
        text, reason = held(way, wide, seed, 4000)
        if len(text) >= 5000 and reason == "stop":
            return
    pytest.fail("no string of 5,000 characters came to its own end")


def test_a_string_full_of_escapes_comes_to_its_end(wide: Any) -> None:
    """No quote can end it within an escape, nor within a character of several tokens; its tokens count all the same."""
    asked = dspy.Signature({"q": (str, dspy.InputField()), "stories": (Story, dspy.OutputField())}, "Tell it.")
    form, _ = fields.grammar(asked, {}, 160)
    for text in ("\\n", "é"):
        bias = dict.fromkeys(wide.tokenize(text), 25.0)
        assert len(bias) == 2
        for seed in range(8):
            found = wide.generate("a", form=form, max_tokens=160, temperature=1.0, seed=seed, logit_bias=bias)
            assert found.finish_reason == "stop", (text, seed, found.text)
            assert found.shortened == 1
            assert len(found.ids) > 60


@pytest.mark.parametrize("way", WAYS[:-1])
def test_a_string_that_the_tokens_cut_is_told(wide: Any, lean: Any, way: str) -> None:
    lean(" altogether", by=14.0)  # its end is drawn once in a million tokens
    text, reason = held(way, wide, 3, 300)
    assert reason == "length"
    assert len(text) > 2000


def test_a_string_that_must_end_for_the_next_is_told(wide: Any, lean: Any) -> None:
    """Under field markers a string has the room that others do not need, and those that would have gone on are counted."""
    lean(" altogether", by=14.0)

    class Pair(pydantic.BaseModel):
        one: str
        two: str

    lm = bridge.DenseLM(wide, temperature=1.0, max_tokens=600, cache=False, seed=1)
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
        asked = dspy.Signature({"q": (str, dspy.InputField()), "pair": (Pair, dspy.OutputField())}, "Tell it.")
        pair = dspy.Predict(asked)(q="?").pair
    assert len(pair.one) > 3000, "the room that the next does not need"
    assert len(pair.two) > 100
    told = lm.history[-1]["response"]
    assert (told.finish_reason, told.provider_data) == ("stop", {"shortened": 2})


def depth(value: Any) -> int:
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(depth, parts), default=0)


@pytest.mark.parametrize("way", ["Json", "json_object", "DenseAdapter"])
def test_json_nests_as_deep_as_it_likes(wide: Any, lean: Any, way: str) -> None:
    lean("[", '"', by=6.0)
    deepest = 0
    for seed in range(8):
        lm = bridge.DenseLM(wide, temperature=1.0, max_tokens=200, cache=False, seed=seed)
        if way == "Json":
            form = densecore.Json({"type": "object"})
            value = json.loads(wide.generate("a", form=form, max_tokens=200, temperature=1.0, seed=seed).text)
        elif way == "json_object":
            value = json.loads(lm("Say.", response_format={"type": "json_object"})[0])
        else:
            with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
                value = dspy.Predict(asking(dict[str, Any]))(question="?").value
        deepest = max(deepest, depth(value))
    assert deepest >= 5


class Tree(pydantic.BaseModel):
    label: str
    children: list[Tree] = pydantic.Field(max_length=2)


class Deep(pydantic.BaseModel):
    """Five levels, and a tree of any number."""

    table: dict[str, list[dict[str, int]]] = pydantic.Field(min_length=1)
    levels: list[list[list[list[list[int]]]]] = pydantic.Field(min_length=1)
    tree: Tree


@pytest.mark.parametrize("way", ["response_format", "DenseAdapter"])
def test_deep_and_recursive_models_parse(wide: Any, lean: Any, way: str) -> None:
    lean('"', by=5.0)  # names are short
    filled = set()
    for seed in range(6):
        lm = bridge.DenseLM(wide, temperature=1.0, max_tokens=900, cache=False, seed=seed)
        if way == "response_format":
            schema = {"type": "json_schema", "json_schema": {"name": "deep", "schema": Deep.model_json_schema()}}
            found = Deep.model_validate_json(lm("Say.", response_format=schema)[0])
        else:
            with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
                found = dspy.Predict(asking(Deep))(question="?").value
        filled |= {"table"} if any(row for rows in found.table.values() for row in rows) else set()
        filled |= {"tree"} if found.tree.children else set()
    assert filled == {"table", "tree"}


def test_a_schema_may_refer_to_itself_as_a_whole(wide: Any) -> None:
    schema = {"type": "object", "required": ["n"], "additionalProperties": False,
              "properties": {"n": {"type": "integer"}, "next": {"$ref": "#"}}}  # fmt: skip
    asked = {"type": "json_schema", "json_schema": {"name": "list", "schema": schema}}
    deepest = 0
    for seed in range(12):
        lm = bridge.DenseLM(wide, temperature=1.0, max_tokens=300, cache=False, seed=seed)
        deepest = max(deepest, depth(json.loads(lm("Say.", response_format=asked)[0])))
    assert deepest >= 2
