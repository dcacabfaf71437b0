"""Programs as files: what comes back is what was saved, and a file that cannot be right is refused by name."""

from __future__ import annotations

import inspect
import json
import random
from pathlib import Path
from typing import Any

import pytest

from densecore import data, errors

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
programs = pytest.importorskip("densecore.programs", reason="the extra `dspy`")
saved = pytest.importorskip("densecore.programs.saved", reason="the extra `dspy`")

ALPHABET = 'ab ,.\n"\\{}é汉🙂\u2028</'


def said() -> str:
    return "".join(random.choices(ALPHABET, k=random.randrange(1, 40)))


def changed(name: str = "ChainOfThought", task: Any = programs.MATH) -> Any:
    """A program with instructions and demonstrations that nobody wrote before."""
    program = programs.make(name, task)
    for predictor in program.predictors():
        # DSPy takes off the indentation of instructions whenever it reads them.
        predictor.signature = predictor.signature.with_instructions(inspect.cleandoc(f"Do {said()}"))
        fields = predictor.signature.fields
        demo = {field: [said(), said()] if field in ("context", "steps") else said() for field in fields}
        predictor.demos = [dspy.Example(**demo), dspy.Example(augmented=True, **demo)]
    return program


@pytest.fixture
def file(tmp_path: Path) -> Path:
    saved.save(tmp_path / "cot.json", changed(), "ChainOfThought", programs.MATH)
    return tmp_path / "cot.json"


def makes(name: str, task: Any) -> bool:
    """Whether the program is for such a task."""
    try:
        return bool(programs.make(name, task).predictors())
    except errors.ArgumentError:
        return False


OURS = programs.names()  # before other tests register theirs
EACH = [(name, task) for name in OURS for task in (programs.MATH, programs.QA) if makes(name, task)]


def test_every_program_is_tried() -> None:
    assert {name for name, _ in EACH} == set(OURS)


@pytest.mark.parametrize(("name", "task"), EACH, ids=lambda each: getattr(each, "name", each))
def test_what_comes_back_is_what_was_saved(name: str, task: Any, tmp_path: Path) -> None:
    program = changed(name, task)
    facts = {"score": 0.5, "why": said()}
    saved.save(tmp_path / "x.json", program, name, task, {}, facts)
    again, record = saved.load(tmp_path / "x.json")
    assert type(again) is type(program)
    assert saved.state_of(again) == saved.state_of(program)
    assert record["provenance"] == facts
    assert (record["program"], record["task"]) == (name, task.name)
    inputs = dict.fromkeys(program.predictors()[0].signature.input_fields, "1 + 1?")
    for mine, theirs in zip(program.predictors(), again.predictors(), strict=True):
        prompts = [dspy.ChatAdapter().format(each.signature, each.demos, inputs) for each in (mine, theirs)]
        assert prompts[0] == prompts[1]


def test_settings_come_back(tmp_path: Path) -> None:
    program = programs.make("PlainChainOfThought", programs.MATH, tokens=77)
    saved.save(tmp_path / "x.json", program, "PlainChainOfThought", programs.MATH, {"tokens": 77})
    assert saved.load(tmp_path / "x.json")[0].solve.config == {"max_tokens": 77}


def test_rows_as_demonstrations_are_saved_with_what_a_prompt_shows(tmp_path: Path) -> None:
    """An example of a row carries the row itself, which is no JSON."""
    program = programs.make("ChainOfThought", programs.MATH)
    [row] = data.load("problems", "train", limit=1)
    program.predictors()[0].demos = [programs.MATH.example(row)]
    record = saved.save(tmp_path / "x.json", program, "ChainOfThought", programs.MATH)
    [demo] = next(iter(record["state"].values()))["demos"]
    assert set(demo) == {"question", "reasoning", "answer"}
    assert demo["question"] == row.question


def test_no_language_model_is_saved(tmp_path: Path) -> None:
    program = changed()
    program.set_lm(dspy.LM("openai/none", api_key="sesame", api_base="http://example.com"))
    saved.save(tmp_path / "x.json", program, "ChainOfThought", programs.MATH)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "sesame" not in text
    assert "example.com" not in text
    assert program.get_lm() is not None, "saving must not unbind"
    assert saved.load(tmp_path / "x.json")[0].predictors()[0].lm is None


def test_what_tells_programs_apart(tmp_path: Path) -> None:
    program = changed()
    first = saved.save(tmp_path / "a.json", program, "ChainOfThought", programs.MATH, provenance={"seed": 1})
    second = saved.save(tmp_path / "b.json", program, "ChainOfThought", programs.MATH, provenance={"seed": 2})
    other = saved.save(tmp_path / "c.json", changed(), "ChainOfThought", programs.MATH)
    assert saved.digest(first) == saved.digest(second) != saved.digest(other)
    assert saved.digest(saved.load(tmp_path / "a.json")[1]) == saved.digest(first)


def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(errors.ArgumentError, match="no ZeroShot"):
        saved.save(file, changed(), "ZeroShot", programs.MATH)
    with pytest.raises(errors.ArgumentError, match="Nothing"):
        saved.save(file, changed(), "Nothing", programs.MATH)
    with pytest.raises(errors.DataError, match="plain JSON"):
        saved.save(file, changed(), "ChainOfThought", programs.MATH, provenance={"score": float("nan")})
    bad = changed()
    bad.predictors()[0].demos = [dspy.Example(question=object(), answer="1")]
    with pytest.raises(errors.DataError, match=r"cot\.json.*plain JSON"):
        saved.save(file, bad, "ChainOfThought", programs.MATH)
    with pytest.raises(errors.StorageError):
        saved.save(file / "below" / "x.json", changed(), "ChainOfThought", programs.MATH)
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == [file.name]


# ---- files that cannot be right ----

WHERE = ("state", "answer.predict")


def put(record: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        record = record[key]
    if value is None:
        del record[path[-1]]
    else:
        record[path[-1]] = value


DAMAGE: list[tuple[tuple[str, ...], Any, str]] = [
    (("densecore_program",), None, "no saved program"),
    (("densecore_program",), 2, "format 2"),
    (("program",), "Nothing", "Nothing.*there are ZeroShot"),
    (("program",), 7, "program = 7"),
    (("task",), "chess", "chess.*math"),
    (("settings",), [], "settings = "),
    (("settings", "tokens"), 3, "tokens"),
    (("state",), {}, "predictors none"),
    (("state", "other"), {}, "other"),
    (("provenance",), None, "provenance"),
    (("newer",), 1, "newer"),
    ((*WHERE, "forward"), "evil", "nothing else"),
    ((*WHERE, "config"), {"api_base": "http://example.com"}, "nothing else"),
    ((*WHERE, "lm"), {"model": "openai/x", "api_base": "http://example.com"}, "lm = .*must be empty"),
    ((*WHERE, "traces"), [1], "traces"),
    ((*WHERE, "demos"), {}, "demos"),
    ((*WHERE, "demos"), ["x"], "demonstration"),
    ((*WHERE, "demos"), [{"question": "x", "secret": 1}], "demonstration"),
    ((*WHERE, "signature"), None, "nothing else"),
    ((*WHERE, "signature"), [], "instructions"),
    ((*WHERE, "signature", "instructions"), 5, "instructions"),
    ((*WHERE, "signature", "fields"), [], "must list 3 fields: question, reasoning, answer"),
    ((*WHERE, "signature", "fields"), [{"prefix": 1, "description": "x"}] * 3, "prefix"),
]


@pytest.mark.parametrize(("path", "value", "told"), DAMAGE, ids=lambda each: str(each)[:40])
def test_a_damaged_record_is_refused(path: tuple[str, ...], value: Any, told: str, file: Path) -> None:
    record = json.loads(file.read_text(encoding="utf-8"))
    put(record, path, value)
    file.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(errors.DataError, match=rf"(?s)cot\.json.*{told}"):
        saved.load(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 10**6, b'{"a": 1}'],
    ids=lambda content: repr(content[:8]),
)
def test_what_is_no_record_is_refused(content: bytes, tmp_path: Path) -> None:
    place = tmp_path / "x.json"
    place.write_bytes(content)
    with pytest.raises(errors.DataError, match=r"x\.json"):
        saved.load(place)


def test_size_and_absence(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.StorageError, match="none"):
        saved.load(file.with_name("none.json"))
    saved.load(file)
    monkeypatch.setattr(saved, "MAX_BYTES", file.stat().st_size - 1)
    with pytest.raises(errors.DataError, match="no program is that large"):
        saved.load(file)
