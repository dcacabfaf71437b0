"""Outputs that parse: random weights write nonsense into the grammar, and DSPy reads every one of its answers."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import decimal
import enum
import pickle
import re
import uuid
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import pytest
from typing_extensions import TypedDict

from densecore import Lark, errors
from densecore.forms import response
from tests.golden.fixtures import Pair
from tests.golden.signatures import ask, asking, is_text

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")
fields = pytest.importorskip("densecore.dspy.fields", reason="the extra `dspy`")
decimals = pytest.importorskip("densecore.forms.decimals", reason="the extra `dspy`")
formats = pytest.importorskip("densecore.forms.formats", reason="the extra `dspy`")
schema = pytest.importorskip("densecore.forms.schema", reason="the extra `dspy`")


pytestmark = pytest.mark.usefixtures("no_cache_on_disk")


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Tone(str, enum.Enum):
    CALM = "very calm"
    BROKEN = "line\nbreak"
    SPACED = " spaced "


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = pydantic.Field(ge=1, le=9)


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str


class Person(pydantic.BaseModel):
    """Every kind of part, and one that is a person again."""

    name: str
    age: int = pydantic.Field(ge=0, le=130)
    born: dt.date
    email: str | None = None
    tags: list[str] = pydantic.Field(min_length=1, max_length=3)
    share: float = pydantic.Field(ge=0, le=1)
    code: str = pydantic.Field(pattern="^[A-Z]{2}-[0-9]{1,3}$")
    mood: Literal["calm", "merry"]
    parent: Person | None = None


def is_person(value: Any) -> bool:
    return (
        isinstance(value, Person)
        and 0 <= value.age <= 130
        and value.name.strip() != ""
        and (value.email is None or value.email.strip() != "")
        and 1 <= len(value.tags) <= 3
        and all(tag.strip() for tag in value.tags)
        and 0 <= value.share <= 1
        and re.fullmatch("[A-Z]{2}-[0-9]{1,3}", value.code) is not None
        and (value.parent is None or is_person(value.parent))
    )


def all_are(kind: type) -> Callable[[Any], bool]:
    return lambda values: all(type(value) is kind for value in values)


class Strict(pydantic.BaseModel):
    """Python's own types alone: a date is no text."""

    model_config = pydantic.ConfigDict(strict=True)

    name: str
    born: dt.date


class Frank(pydantic.BaseModel):
    """Strict where JSON has the type; strictness ends at another model and at a field that is not."""

    model_config = pydantic.ConfigDict(strict=True)

    name: str
    share: float
    notes: list[str]
    born: dt.date = pydantic.Field(strict=False)
    cat: Cat
    when: dt.date | str


class Trimmed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(str_strip_whitespace=True, str_min_length=3)

    name: str


class StrictDict(TypedDict):
    __pydantic_config__ = pydantic.ConfigDict(strict=True)

    born: dt.date


class Twice(pydantic.BaseModel):
    """The enumeration is defined once and referred to twice."""

    model_config = pydantic.ConfigDict(strict=True)

    one: Colour
    two: Colour


AT_LEAST_ONE = pydantic.Field(min_length=1)
STRIPPED = pydantic.StringConstraints(strip_whitespace=True, min_length=3, max_length=5)

# name -> annotation, what each value must be, judged by hand
TYPES: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "text": (str, is_text),
    "reasoning": (dspy.Reasoning, lambda v: is_text(v.content)),
    "code": (dspy.Code["python"], lambda v: is_text(v.code) and "```" not in v.code),
    "integer": (int, lambda v: type(v) is int and abs(v) < 10**12),
    "number": (float, lambda v: type(v) is float and abs(v) <= 10**12),
    "decimal": (decimal.Decimal, lambda v: isinstance(v, decimal.Decimal) and v.is_finite()),
    "truth": (bool, lambda v: type(v) is bool),
    "words": (Literal["yes", "no", 'so "so"', " spaced "], lambda v: v in ("yes", "no", 'so "so"', " spaced ")),
    "mixed": (Literal[1, 2, "two", None], lambda v: v in (1, 2, "two", None)),
    "colour": (Colour, lambda v: isinstance(v, Colour)),
    "tone": (Tone, lambda v: isinstance(v, Tone)),
    "texts": (list[str], all_are(str)),
    "tables": (list[list[int]], lambda v: all(all_are(int)(row) for row in v)),
    "counts": (
        Annotated[dict[str, int], AT_LEAST_ONE],
        lambda v: all_are(int)(v.values()) and all(is_text(key.strip()) for key in v),
    ),
    "stripped": (list[Annotated[str, STRIPPED]], lambda v: all(3 <= len(text.strip()) <= 5 for text in v)),
    "frank": (Frank, lambda v: isinstance(v, Frank)),
    "trimmed": (Trimmed, lambda v: len(v.name) >= 3),
    "share": (Annotated[float, pydantic.Field(gt=0, lt=0.25)], lambda v: 0 < v < 0.25),
    "price": (
        Annotated[decimal.Decimal, pydantic.Field(ge=-1, decimal_places=2)],
        lambda v: v >= -1 and v * 100 % 1 == 0,
    ),
    "dozens": (Annotated[int, pydantic.Field(ge=-30, lt=50, multiple_of=12)], lambda v: v in range(-24, 50, 12)),
    "named": (Annotated[dict[Literal["one", "two"], float], AT_LEAST_ONE], lambda v: {"one", "two"} >= set(v) != set()),
    "numbered": (Annotated[dict[int, str], AT_LEAST_ONE], lambda v: all_are(int)(v) and all_are(str)(v.values())),
    "open": (dict[str, Any], lambda v: type(v) is dict),
    "any": (Any, lambda v: True),
    "list": (list, lambda v: type(v) is list),
    "set": (set[int], lambda v: type(v) is set and all_are(int)(v)),
    "pair": (tuple[int, str], lambda v: [type(part) for part in v] == [int, str]),
    "person": (Person, is_person),
    "people": (list[Person], lambda v: all(is_person(person) for person in v)),
    "animal": (Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], lambda v: isinstance(v, (Cat, Dog))),
    "date": (dt.date, lambda v: type(v) is dt.date),
    "moment": (dt.datetime, lambda v: type(v) is dt.datetime),
    "aware": (pydantic.AwareDatetime, lambda v: v.tzinfo is not None),
    "naive": (pydantic.NaiveDatetime, lambda v: v.tzinfo is None),
    "time": (dt.time, lambda v: type(v) is dt.time),
    "span": (dt.timedelta, lambda v: type(v) is dt.timedelta),
    "uuid": (pydantic.UUID4, lambda v: isinstance(v, uuid.UUID) and v.version == 4),
    "link": (pydantic.HttpUrl, lambda v: isinstance(v, pydantic.HttpUrl)),
    "perhaps text": (str | None, lambda v: v is None or is_text(v)),
    "perhaps date": (dt.date | None, lambda v: v is None or type(v) is dt.date),
    "perhaps word": (Literal["a", "b"] | None, lambda v: v in (None, "a", "b")),
    "either": (int | str, lambda v: type(v) is int or v.strip() != ""),
}


@pytest.mark.parametrize("name", TYPES)
def test_nonsense_is_of_the_type(small: Pair, name: str) -> None:
    kind, is_one = TYPES[name]
    for seed in np.random.default_rng().integers(0, 1 << 30, 4).tolist():
        found = ask(small.ours, asking(kind), 400, seed)
        assert is_one(found.value), f"seed {seed}: {found.value!r}"
        assert 1 <= len(found.last.strip()) == len(found.last) <= 40, f"seed {seed}: {found.last!r}"


@pytest.mark.parametrize("name", ["words", "person"])
def test_a_thought_before_it_changes_nothing(small: Pair, smol: Any, name: str) -> None:
    kind, is_one = TYPES[name]
    for model, temperature in ((small.ours, 1.0), (smol, 0.0), (smol, 1.5)):
        seed = int(np.random.default_rng().integers(1 << 30))
        found = ask(model, asking(kind, thought=True), 300, seed, temperature)
        assert is_one(found.value), f"seed {seed}: {found.value!r}"
        assert is_text(found.thought), f"seed {seed}: {found.thought!r}"


def test_constraints_of_texts_are_kept(small: Pair) -> None:
    for seed in np.random.default_rng().integers(0, 1 << 30, 2).tolist():
        assert 20 <= len(ask(small.ours, asking(str, min_length=20, max_length=30), 200, seed).value) <= 30
        assert re.search(
            "[0-9]{3}", ask(small.ours, asking(str, pattern="^a[0-9]{3}/", max_length=20), 200, seed).value
        )
        assert 3 <= ask(small.ours, asking(int, ge=3, lt=8), 200, seed).value < 8
        assert 0 < ask(small.ours, asking(float, gt=0, le=0.5), 200, seed).value <= 0.5


@pytest.mark.parametrize(("kind", "field", "absent"), [(str | None, {}, None), (str, {"default": "none"}, "none")])
def test_what_is_optional_may_be_left_out(small: Pair, kind: Any, field: dict[str, Any], absent: Any) -> None:
    asked = dspy.Signature({"question": (str, dspy.InputField()), "note": (kind, dspy.OutputField(**field)),
                            "truth": (bool, dspy.OutputField())}, "Answer.")  # fmt: skip
    seen: set[bool] = set()
    for seed in np.random.default_rng().integers(0, 1 << 30, 60).tolist():
        found = ask(small.ours, asked, 120, seed, temperature=2.0)
        assert type(found.truth) is bool, f"seed {seed}"
        assert found.note == absent or is_text(found.note), f"seed {seed}: {found.note!r}"
        seen.add(found.note == absent)
        if len(seen) == 2:
            break
    assert len(seen) == 2
    last = ask(small.ours, asked.delete("truth"), 120, temperature=2.0).note
    assert last == absent or is_text(last)


def test_texts_come_back_as_they_were_written() -> None:
    """Whatever the text's rule allows, DSPy's parser returns, whether a field follows or not."""
    draw = np.random.default_rng()
    alphabet = [*'[]# \n\tab\r\u2028\u3000\x1c`"{}', "[[ ## ", "[[ ## value ## ]]", "\n\n", "```", "é", "[["]
    signature, kept = asking(int, thought=True), 0
    for _ in range(4000):
        text = "".join(draw.choice(alphabet, draw.integers(1, 9)))
        if re.fullmatch(fields._TEXT, text) is None:
            continue
        kept += 1
        written = f"[[ ## thought ## ]]\n{text}\n\n[[ ## value ## ]]\n7\n\n[[ ## last ## ]]\n{text}"
        found = dspy.ChatAdapter().parse(signature, written)
        assert (found["thought"], found["value"], found["last"]) == (text.strip(), 7, text.strip()), repr(text)
    assert kept > 400


def test_numbers_lie_between_their_bounds() -> None:
    draw = np.random.default_rng()
    for _ in range(150):
        least, most = sorted(
            Fraction(int(n), 10 ** int(k))
            for n, k in zip(draw.integers(-3000, 3000, 2), draw.integers(0, 4, 2), strict=True)
        )
        places, above, below = int(draw.integers(0, 4)), bool(draw.integers(2)), bool(draw.integers(2))
        rule = re.compile(decimals.between(least, most, places, above=above, below=below) or "(?!)")
        for n, k in zip(draw.integers(-4000, 4000, 60).tolist(), draw.integers(0, 5, 60).tolist(), strict=True):
            # Every third is a bound or beside it.
            n = int((least, most)[n % 2] * 10**k) + n % 3 - 1 if n % 3 == 0 else n
            digits = f"{abs(n):0{k + 1}}"
            text = f"{'-' if n < 0 else ''}{digits[: len(digits) - k]}{'.' if k else ''}{digits[len(digits) - k :]}"
            value = Fraction(n, 10**k)
            inside = (least < value or (value == least and not above)) and (
                value < most or (value == most and not below)
            )
            assert (rule.fullmatch(text) is not None) == (inside and k <= places), (
                least,
                most,
                places,
                above,
                below,
                text,
            )
        assert not any(rule.fullmatch(text) for text in ("-0", "01", "1.", ".5", "-0.0"))


def test_blank_is_no_text() -> None:
    string = re.compile(schema.Rules().schema({"type": "string"})[1:-1])
    for blank in ("", " ", "\n", " \t\n", "\u3000", "\u2028"):
        assert re.fullmatch(fields._TEXT, blank) is None, repr(blank)
        assert string.fullmatch(f'"{blank}"') is None, repr(blank)
    assert string.fullmatch('"a \\"b\\""')
    assert re.compile(schema.Rules().schema({"type": "string", "minLength": 0})[1:-1]).fullmatch('""')


def test_ends_of_lines_within_json_are_not_ends_of_fields(smol: Any) -> None:
    """JSON may hold them as they are, and DSPy reads line by line."""
    asked, said = asking(list[str]), "a\u2028[[ ## last ## ]]\x85b"
    written = f'[[ ## value ## ]]\n["{said}"]\n\n[[ ## last ## ]]\nend'
    lm = bridge.DenseLM(smol, cache=False)
    found = bridge.DenseAdapter()._call_postprocess(asked, asked, [written, {"text": written}], lm, {})
    assert [(one["value"], one["last"]) for one in found] == [([said], "end")] * 2


def test_dates_are_those_of_the_calendar() -> None:
    date = re.compile(formats.DATE)
    years = {0, 1, 4, 100, 400, 1900, 2000, 2023, 2024, 9999} | set(
        np.random.default_rng().integers(0, 10000, 40).tolist()
    )
    for year in years:
        for month in range(14):
            for day in range(33):
                try:
                    dt.date(year, month, day)
                    there = True
                except ValueError:
                    there = False
                text = f"{year:04}-{month:02}-{day:02}"
                assert (date.fullmatch(text) is not None) == there, text


@pytest.mark.parametrize(
    ("kind", "named"),
    [(Literal["a\u2028b"], "choice"), (Literal[1, "1"], "choice 1"), (list[pydantic.FutureDate], "now_op"), (complex, "complex"),
     (pydantic.Json, "contentMediaType"), (Callable, "JSON schema"), (tuple[int, ...] | None, None),
     (Annotated[set[int], pydantic.Field(min_length=2)], "uniqueItems"), (dict[bool, int], "keys"),
     (Annotated[dict[str, int], pydantic.Field(min_length=2)], "minProperties"), (dict[float, int], "keys"),
     (Strict, "a strict date"), (list[Strict], "a strict date"), (StrictDict, "a strict date"),
     (Twice, "a strict enum"), (Annotated[dt.time, pydantic.Strict()], "a strict time")],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_held_is_refused_by_name(small: Pair, kind: Any, named: str | None) -> None:
    if named is None:
        assert ask(small.ours, asking(kind), 300).last
        return
    with pytest.raises(errors.ArgumentError, match=f"field value: .*{named}"):
        ask(small.ours, asking(kind), 300)


class Recorder:
    """An engine that is not ours: it keeps requests and says what it was told to."""

    supports_function_calling = supports_reasoning = False
    supports_response_schema = True
    supported_params = frozenset({"temperature", "max_tokens", "response_format"})

    def __init__(self, *answers: str) -> None:
        self.answers, self.requests = list(answers), []

    def complete(self, request: Any) -> Any:
        self.requests.append(request)
        text = self.answers[min(len(self.requests), len(self.answers)) - 1]
        message = dspy.lm15.Message.assistant([dspy.lm15.TextPart(text)])
        usage = dspy.lm15.Usage(input_tokens=1, output_tokens=1)
        return dspy.lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    "first", ["[[ ## thought ## ]]\nx\n[[ ## value ## ]]\n5\n[[ ## last ## ]]\ny", "no such thing"]
)
def test_other_language_models_are_asked_as_dspy_asks(first: str) -> None:
    asked = []
    for adapter in (dspy.ChatAdapter(), bridge.DenseAdapter()):
        engine = Recorder(first, '{"thought": "x", "value": 5, "last": "y"}')
        with dspy.context(lm=dspy.LM("openai/other", engine=engine, cache=False), adapter=adapter):
            assert dspy.Predict(asking(int))(question="How many?").value == 5
        asked.append(engine.requests)
    assert asked[0] == asked[1]
    assert len(asked[0]) == (2 if first == "no such thing" else 1)
    assert asked[0][0].config.response_format is None


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Requests that the engine gets from now on."""
    found: list[Any] = []
    complete = bridge.DenseEngine.complete
    monkeypatch.setattr(bridge.DenseEngine, "complete", lambda self, x: found.append(x) or complete(self, x))
    return found


def test_there_is_no_second_call(smol: Any, calls: list[Any]) -> None:
    """What a validator refuses was of its type; asking for JSON would not help."""

    class Never(pydantic.BaseModel):
        word: str

        @pydantic.field_validator("word")
        @classmethod
        def refuse(cls, value: str) -> str:
            raise ValueError("never")

    lm = bridge.DenseLM(smol, max_tokens=120, cache=False)
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()), pytest.raises(Exception, match="never"):
        dspy.Predict(dspy.Signature({"q": (str, dspy.InputField()), "a": (Never, dspy.OutputField())}, "Say."))(q="x")
    assert len(calls) == 1


def test_the_form_is_part_of_the_caches_key(smol: Any, calls: list[Any]) -> None:
    lm = bridge.DenseLM(smol, max_tokens=30)
    same = [{"role": "user", "content": "Is water wet?"}]
    forms = [response.wrap(Lark(f'start: "{word}"')) for word in ("yes", "no")]
    assert [lm(messages=same, response_format=form)[0] for form in forms] == ["yes", "no"]
    assert [lm(messages=same, response_format=form)[0] for form in forms] == ["yes", "no"]
    assert len(calls) == 2


def test_react_gives_each_tool_its_own_arguments(wide: Any) -> None:
    """Plain `dspy.ReAct`: whichever tool nonsense chooses, its call succeeds."""
    called: list[tuple[Any, ...]] = []

    def weather(city: str, day: dt.date, hours: list[int]) -> str:
        called.append(("weather", city, day, hours))
        return "sunny"

    def add(left: int, right: float = 1.0) -> float:
        called.append(("add", left, right))
        return left + right

    lm = bridge.DenseLM(wide, temperature=2.0, max_tokens=500, cache=False)
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
        agent = dspy.ReAct("question -> answer: int", tools=[weather, add], max_iters=1)
        for seed in np.random.default_rng().integers(0, 1 << 30, 30).tolist():
            agent.react.config = {"seed": seed}
            found = agent(question="How warm is it?")
            assert type(found.answer) is int
            assert "error" not in str([v for k, v in found.trajectory.items() if "observation" in k]), found.trajectory
            if len({name for name, *_ in called}) == 2:
                break
    assert {name for name, *_ in called} == {"weather", "add"}
    for name, *arguments in called:
        kinds = [type(argument) for argument in arguments]
        assert kinds == ([str, dt.date, list] if name == "weather" else [int, float]), called


def test_tool_calls_fit_the_tools_among_the_inputs(small: Pair) -> None:
    tool = dspy.Tool(lambda city: city, name="weather", args={"city": {"type": "string"}}, arg_types={"city": str})
    asked = dspy.Signature({"question": (str, dspy.InputField()), "tools": (list[dspy.Tool], dspy.InputField()),
                            "calls": (dspy.ToolCalls, dspy.OutputField())}, "Call.")  # fmt: skip
    lm = bridge.DenseLM(small.ours, temperature=1.0, max_tokens=300, cache=False)
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
        found = [dspy.Predict(asked)(question="?", tools=[tool], config={"seed": seed}).calls for seed in range(12)]
    calls = [call for one in found for call in one.tool_calls]
    assert calls
    assert all(call.name == "weather" and list(call.args) == ["city"] for call in calls)


def test_json_adapter_gets_its_schema(wide: Any) -> None:
    """DSPy's own structured answers work too: its schema is held, and an open mapping is some JSON object."""
    lm = bridge.DenseLM(wide, temperature=1.0, max_tokens=400, cache=False)
    asked = dspy.Signature({"question": (str, dspy.InputField()), "who": (Person, dspy.OutputField()),
                            "pet": (Cat, dspy.OutputField())}, "Answer.")  # fmt: skip
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        for seed in np.random.default_rng().integers(0, 1 << 30, 3).tolist():
            found = dspy.Predict(asked)(question="Who?", config={"seed": seed})
            assert is_person(found.who), f"seed {seed}"
            assert isinstance(found.pet, Cat), f"seed {seed}"
    text = lm("Say.", response_format={"type": "json_object"})[0]
    assert isinstance(pydantic.TypeAdapter(dict[str, Any]).validate_json(text), dict)
    with pytest.raises(Exception, match="not cannot be held"):
        lm("Say.", response_format={"type": "json_schema", "json_schema": {"schema": {"not": {}}}})


def test_listeners_hear_tokens(smol: Any) -> None:
    """The adapter streams as DSPy's does: a field in pieces, the pieces its text."""
    lm = bridge.DenseLM(smol, max_tokens=80, cache=False)
    program = dspy.Predict("question -> thought, truth: bool")
    listener = dspy.streaming.StreamListener(signature_field_name="thought")

    async def run() -> tuple[list[str], Any]:
        streaming = dspy.streamify(program, stream_listeners=[listener])
        pieces, answer = [], None
        async for piece in streaming(question="Why is the sky blue?"):
            if isinstance(piece, dspy.Prediction):
                answer = piece
            elif isinstance(piece, dspy.streaming.StreamResponse):
                pieces.append(piece.chunk)
        return pieces, answer

    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
        pieces, answer = asyncio.run(run())
    assert len(pieces) > 5
    assert "".join(pieces).strip() == answer.thought
    assert type(answer.truth) is bool


def test_coroutines_are_held_too(small: Pair) -> None:
    lm = bridge.DenseLM(small.ours, temperature=1.0, max_tokens=300, cache=False)
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
        assert type(asyncio.run(dspy.Predict(asking(dt.date)).acall(question="When?")).value) is dt.date


def test_it_is_known_as_dspys_and_copied_like_it() -> None:
    adapter = bridge.DenseAdapter()
    assert type(adapter).__name__ == "ChatAdapter"
    assert type(pickle.loads(pickle.dumps(adapter))) is bridge.DenseAdapter
    assert type(copy.deepcopy(adapter)) is bridge.DenseAdapter
