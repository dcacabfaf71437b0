"""Bad data files and bad wishes: a clear error, with file and line where there is one."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.datafiles import FILES, HOTPOT, SQUAD, problem, write

from densecore import data
from densecore.data import folder
from densecore.errors import ArgumentError, DataError

BAD_LINES = {
    "half": (b'{"question": "1 + 1?", "ans', r"column \d+: no JSON"),
    "text": (b"What is 1 + 1?", r"no JSON"),
    "a list": (b"[1, 2]", r"must be an object .* list"),
    "a number": (b"17", r"must be an object .* int"),
    "latin-1": ('{"question": "Zoë"}'.encode("latin-1"), r"byte 17 is not UTF-8"),
    "utf-16": ('{"question": "1"}'.encode("utf-16"), r"byte 1 is not UTF-8"),
    "nan": (b'{"question": NaN}', r"NaN is no JSON"),
    "deep": (b"[" * 100_000, r"no usable JSON"),
    "digits": (b'{"question": ' + b"9" * 5000 + b"}", r"no usable JSON|must be a text"),
    "two rows": (b'{"a": 1} {"b": 2}', r"no JSON"),
    "nothing in it": (b"{}", r"'(answer|context|answers|question|id)' is missing; the row has nothing"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, name, bad):
    file, split, good = FILES[name]
    line, message = BAD_LINES[bad]
    write(tmp_path, file, [good, line, good])
    with pytest.raises(DataError, match=message) as caught:
        data.load(name, split, folder=tmp_path, limit=1)
    assert f"{tmp_path / file}, line 2" in str(caught.value)


BAD_FIELDS = [
    ("gsm8k", {"question": ...}, r"field 'question' is missing; the row has answer"),
    ("gsm8k", {"question": ""}, r"'question' is empty"),
    ("gsm8k", {"question": " \n"}, r"'question' is empty"),
    ("gsm8k", {"question": None}, r"'question' is null; it must be a text"),
    ("gsm8k", {"answer": 18}, r"'answer' is a number; it must be a text"),
    ("gsm8k", {"answer": "It is 18."}, r"no line '#### n'"),
    ("gsm8k", {"answer": "It is #### many"}, r"'many': it must be a number"),
    ("gsm8k", {"answer": "It is 5 ####"}, r"'answer' is empty"),
    ("gsm8k", {"answer": "#### " + "9" * 70}, r"it must be a number"),
    ("gsm8k", {"answer": "#### 1,00"}, r"it must be a number"),
    ("gsm8k", {"question": "\ud800 half"}, r"surrogate"),
    ("svamp", {"answer": True}, r"'answer' is true or false"),
    ("svamp", {"answer": "nan"}, r"it must be a number"),
    ("svamp", {"answer": 1e300}, r"it must be a number"),
    ("svamp", {"id": 1.5}, r"'id' is a number; it must be a text"),
    ("svamp", {"equation": ...}, r"'equation' is missing"),
    ("squad", {"answers": []}, r"'answers' lists none"),
    ("squad", {"answers": "753 BC"}, r"'answers' is a text; it must be a list"),
    ("squad", {"answers": ["753 BC", ""]}, r"'answers\[1\]' is empty"),
    ("squad", {"answers": [753]}, r"'answers\[0\]' is a number"),
    ("squad", {"answers": {"texts": ["753 BC"]}}, r"'answers' is null; it must be a list"),
    ("squad", {"context": ""}, r"'context' is empty"),
    ("squad", {"title": 5}, r"'title' is a number"),
    ("hotpotqa", {"answer": ""}, r"'answer' is empty"),
    ("hotpotqa", {"context": []}, r"lists no paragraph"),
    ("hotpotqa", {"context": "Rome"}, r"'context' must be a list of pairs"),
    ("hotpotqa", {"context": [["Rome"]]}, r"'context' must be a list of pairs"),
    ("hotpotqa", {"context": [["Rome", "is old."]]}, r"sentences of a paragraph must be a list"),
    ("hotpotqa", {"context": [["Rome", [1]]]}, r"'context' is a number"),
    ("hotpotqa", {"context": [["", ["It is old."]]]}, r"'context' is empty"),
    ("hotpotqa", {"context": {"title": ["Rome"], "sentences": []}}, r"of one length"),
    ("hotpotqa", {"supporting_facts": {"title": "Rome", "sent_id": 1}}, r"'supporting_facts' must hold the lists"),
    ("hotpotqa", {"supporting_facts": [[1, 0]]}, r"'supporting_facts' is a number"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), BAD_FIELDS)
def test_a_bad_field_is_named(tmp_path, name, change, message):
    file, split, good = FILES[name]
    bad = {field: value for field, value in (good | change).items() if value is not ...}
    write(tmp_path, file, [good | {"id": "other"}, bad])
    with pytest.raises(DataError, match=message) as caught:
        data.load(name, split, folder=tmp_path)
    assert f"{tmp_path / file}, line 2: " in str(caught.value)


def test_lines_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MAX_LINE", 400)
    write(tmp_path, "gsm8k/dev500.jsonl", [problem(1), b" " * 401])
    with pytest.raises(DataError, match=r"line 2: longer than 400 bytes"):
        data.load("gsm8k", folder=tmp_path)
    write(tmp_path, "gsm8k/dev500.jsonl", [problem(1), b" " * 399])
    assert len(data.load("gsm8k", folder=tmp_path)) == 1


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\t\n\r\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows(tmp_path, content):
    write(tmp_path, "gsm8k/dev500.jsonl", [])
    (tmp_path / "gsm8k" / "dev500.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"dev500\.jsonl holds no rows"):
        data.load("gsm8k", folder=tmp_path)


def test_a_split_without_rows(tmp_path):
    write(tmp_path, "hotpotqa/train.jsonl", [HOTPOT | {"id": number} for number in range(4)])
    with pytest.raises(DataError, match=r"hotpotqa, split 'select'.* has no rows, for its source has 4"):
        data.load("hotpotqa", "select", folder=tmp_path)


def test_marks_line_ends_and_blank_lines_of_other_editors(tmp_path):
    lines = [json.dumps(problem(number)).encode() for number in (1, 2, 3)]
    write(tmp_path, "gsm8k/dev500.jsonl", [])
    (tmp_path / "gsm8k" / "dev500.jsonl").write_bytes(
        b"\xef\xbb\xbf" + lines[0] + b"\r\n\r\n" + lines[1] + b"\n  \n" + lines[2]
    )
    rows = data.load("gsm8k", folder=tmp_path)
    assert [(row.id, row.answer) for row in rows] == [(f"gsm8k-test-{n}", str(n + 1)) for n in range(3)]


def test_an_id_may_occur_once(tmp_path):
    write(tmp_path, "squad/squad_dev.jsonl", [SQUAD, b"", SQUAD | {"question": "Another?"}])
    with pytest.raises(DataError, match=r"line 3: the id 's1' is also that of .*squad_dev\.jsonl, line 1"):
        data.load("squad", folder=tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_no_bytes_get_past_the_reader(tmp_path, content):
    write(tmp_path, "gsm8k/dev500.jsonl", [])
    (tmp_path / "gsm8k" / "dev500.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        data.load("gsm8k", folder=tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["title", "text", "sentences"]), inner),
    max_leaves=8,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FILES)), field=st.integers(0, 20), value=VALUES)
def test_no_value_of_a_field_breaks_a_loader(tmp_path, name, field, value):
    file, split, good = FILES[name]
    field = sorted(good)[field % len(good)]
    write(tmp_path, file, [good | {field: value}])
    message = ""
    rows = []
    try:
        rows = data.load(name, split, folder=tmp_path)
    except DataError as error:
        message = str(error)
    assert rows or f"{tmp_path / file}, line 1: " in message
    assert all(row.question and row.answers and all(row.answers) for row in rows)


# ---- asking for the wrong thing ----


def test_unknown_sets_and_splits_are_named_with_those_that_are_there(tmp_path):
    with pytest.raises(ArgumentError, match=r"'gsm'.*gsm8k, hotpotqa, squad, svamp, problems"):
        data.load("gsm", folder=tmp_path)
    for name in data.names():
        with pytest.raises(ArgumentError, match="'holdout'.*" + ", ".join(data.splits(name))):
            data.load(name, "holdout", folder=tmp_path)


def test_unknown_fields_are_named_with_those_that_are_there():
    row = data.load("problems", limit=1)[0]
    assert row.field("answers") == row.answers
    with pytest.raises(DataError, match=r"'anwser'.*answer, answers, id, paragraphs, question"):
        row.field("anwser")
    with pytest.raises(DataError, match="__class__"):
        row.field("__class__")


@pytest.mark.parametrize("limit", [0, -1, 1.5, "3", True])
def test_limits_that_are_none(limit):
    with pytest.raises(ArgumentError, match="limit"):
        data.load("problems", limit=limit)
