"""Data sets as rows: the right ones, from folders and from the hub."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from tests.datafiles import HOTPOT, SQUAD, SVAMP, problem, write
from tests.golden.data import folder as real_folder

from densecore import data
from densecore.data import gsm8k, svamp
from densecore.errors import ArgumentError, DataError, DownloadError, MissingExtraError, OfflineError, StorageError

REAL = real_folder()  # asked before the tests unset the variable


@pytest.fixture(autouse=True)
def no_folder_is_named(monkeypatch):
    for name in ("DENSECORE_DATA", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


# ---- the rows ----


def test_a_gsm8k_row(tmp_path):
    write(
        tmp_path,
        "gsm8k/dev500.jsonl",
        [{"question": "How much?\n", "answer": "500+500 = 1,000\n#### 1,000", "more": 1}],
    )
    assert data.load("gsm8k", folder=tmp_path) == [
        data.Row("gsm8k-test-0", "How much?", ("1000",), "500+500 = 1,000\n#### 1,000", set="gsm8k", split="dev")
    ]


def test_gsm8k_train_is_the_shuffle_of_the_data_page_and_dev_the_first_500(tmp_path):
    write(tmp_path, "gsm8k/train.jsonl", [problem(number) for number in range(450)])
    write(tmp_path, "gsm8k/test.jsonl", [problem(number) for number in range(450, 1000)])
    order = list(range(450))
    random.Random(0).shuffle(order)
    train = data.load("gsm8k", "train", folder=tmp_path)
    assert [row.answer for row in train] == [str(number) for number in order[:200]]
    assert [row.id for row in train] == [f"gsm8k-train-{number}" for number in order[:200]]
    assert [row.answer for row in data.load("gsm8k", "dev", folder=tmp_path)] == [str(n) for n in range(450, 950)]


def test_a_hotpotqa_row_in_both_shapes(tmp_path):
    columns = HOTPOT | {
        "supporting_facts": {"title": ["Rome", "Rome", "Oslo"], "sent_id": [0, 1, 0]},
        "context": {"title": [t for t, _ in HOTPOT["context"]], "sentences": [s for _, s in HOTPOT["context"]]},
    }
    expected = data.Row(
        id="h1",
        question="Which town is older?",
        answers=("Rome",),
        paragraphs=(
            data.Paragraph("Rome", "Rome is old. Very old."),
            data.Paragraph("Oslo", "Oslo is younger."),
            data.Paragraph("Lima", "Lima is far."),
        ),
        supporting=("Rome", "Oslo"),
        set="hotpotqa",
        split="dev",
    )
    for shape in (HOTPOT, columns):
        write(tmp_path, "hotpotqa/dev_distractor_ctx.jsonl", [shape])
        assert data.load("hotpotqa", "dev", folder=tmp_path) == [expected]


def test_hotpotqa_select_and_train_share_nothing_and_leave_nothing(tmp_path):
    write(tmp_path, "hotpotqa/train.jsonl", [HOTPOT | {"id": number} for number in range(100)])
    train, select = (data.load("hotpotqa", split, folder=tmp_path) for split in ("train", "select"))
    numbers = [[int(row.id) for row in rows] for rows in (train, select)]
    assert sorted(numbers[0] + numbers[1]) == list(range(100))
    assert [len(part) for part in numbers] == [80, 20]
    assert all(part == sorted(part) for part in numbers)


def test_a_squad_row_in_both_shapes(tmp_path):
    expected = data.Row(
        id="s1",
        question="When was Rome founded?",
        answers=("753 BC", "in 753 BC"),
        paragraphs=(data.Paragraph("Old Town", "Rome was founded in 753 BC."),),
        supporting=("Old Town",),
        set="squad",
        split="dev",
    )
    for answers in (SQUAD["answers"], {"text": SQUAD["answers"], "answer_start": [20, 17, 20]}):
        write(tmp_path, "squad/squad_dev.jsonl", [SQUAD | {"answers": answers}])
        assert data.load("squad", folder=tmp_path) == [expected]


def test_a_squad_row_without_a_title(tmp_path):
    write(tmp_path, "squad/train.jsonl", [{name: value for name, value in SQUAD.items() if name != "title"}])
    (row,) = data.load("squad", "train", folder=tmp_path)
    assert row.paragraphs[0].title == ""
    assert row.supporting == ()


def test_svamp_in_both_shapes(tmp_path):
    capitals = {"ID": "chal-1", "Body": "Ann has 5 pens", "Question": "How many are left?", "Answer": 5.0,
                "Equation": "( 5.0 - 0.0 )", "Type": "Subtraction"}  # fmt: skip
    for shape in (SVAMP, capitals):
        write(tmp_path, "math/svamp.jsonl", [shape])
        assert data.load("svamp", "all", folder=tmp_path) == [
            data.Row("chal-1", SVAMP["question"], ("5",), "( 5.0 - 0.0 )", set="svamp", split="all")
        ]


def test_svamp_select_and_rest_part_it(tmp_path):
    write(tmp_path, "svamp/svamp.jsonl", [SVAMP | {"id": f"chal-{number}"} for number in range(50)])
    everything, select, rest = (
        [r.id for r in data.load("svamp", s, folder=tmp_path)] for s in ("all", "select", "rest")
    )
    assert len(select) == 15
    assert sorted(select + rest) == sorted(everything)
    assert sorted(select, key=everything.index) == select
    assert [row.id for row in data.load("svamp", "select", folder=tmp_path)] == select


@pytest.mark.parametrize(
    ("body", "joined"),
    [("It is.", "It is. Why?"), ("It is", "It is. Why?"), ("It is..", "It is. Why?"), ("Is it? ", "Is it? Why?"),
     ("If so,", "If so, Why?")],
)  # fmt: skip
def test_svamp_bodies_end_with_a_mark(body, joined):
    assert svamp.joined(body, " Why?") == joined


@pytest.mark.parametrize(
    ("said", "plain"),
    [("1,000", "1000"), ("-3", "-3"), ("+7", "7"), ("$18", "18"), ("007", "7"), ("0.50", "0.5"), (".5", "0.5"), (7, "7"),
     (2.0, "2"), ("-0.0", "0"), ("12,345,678.90", "12345678.9")],
)  # fmt: skip
def test_gold_figures_become_plain_digits(tmp_path, said, plain):
    write(tmp_path, "math/svamp.jsonl", [SVAMP | {"answer": said}])
    assert data.load("svamp", "all", folder=tmp_path)[0].answers == (plain,)


def test_calculator_notes_can_be_taken_out():
    assert gsm8k.plain("48/2 = <<48/2=24>>24, 24 < 30\n#### 24") == "48/2 = 24, 24 < 30\n#### 24"


def test_rows_are_values():
    row = data.load("problems", limit=1)[0]
    with pytest.raises(AttributeError):
        row.question = "another"
    assert hash(row) == hash(data.load("problems", limit=1)[0])


def test_a_limit_takes_the_first_and_may_exceed_what_there_is(tmp_path):
    write(tmp_path, "gsm8k/dev500.jsonl", [problem(number) for number in range(5)])
    rows = data.load("gsm8k", folder=tmp_path)
    assert data.load("gsm8k", folder=tmp_path, limit=2) == rows[:2]
    assert data.load("gsm8k", folder=tmp_path, limit=50) == rows


def test_a_sample_is_seeded_and_keeps_the_order():
    rows = data.load("problems", limit=40)
    one, same, other = (data.sample(rows, 10, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert len(set(one)) == 10
    assert sorted(one, key=rows.index) == one
    assert data.sample(rows, 40, 3) == rows
    with pytest.raises(ArgumentError, match="count = 41"):
        data.sample(rows, 41)


# ---- where they come from ----


def test_no_folder_is_a_clear_error():
    with pytest.raises(DataError, match=r"DENSECORE_DATA") as caught:
        data.load("gsm8k")
    for way_out in ("--data", "'hub'", "pip install datasets", "'problems'"):
        assert way_out in str(caught.value)


def test_the_environment_names_the_folder_and_an_argument_wins(tmp_path, monkeypatch):
    write(tmp_path / "one", "gsm8k/dev500.jsonl", [problem(1)])
    write(tmp_path / "two", "gsm8k/dev500.jsonl", [problem(2)])
    monkeypatch.setenv("DENSECORE_DATA", str(tmp_path / "one"))
    assert data.load("gsm8k")[0].answer == "1"
    assert data.load("gsm8k", folder=str(tmp_path / "two"))[0].answer == "2"


@pytest.mark.parametrize("through", ["argument", "environment"])
def test_a_folder_that_is_not_there(tmp_path, monkeypatch, through):
    absent = tmp_path / "absent"
    monkeypatch.setenv("DENSECORE_DATA", str(absent if through == "environment" else tmp_path))
    with pytest.raises(DataError, match="no such folder") as caught:
        data.load("gsm8k", folder=absent if through == "argument" else None)
    assert ("DENSECORE_DATA" in str(caught.value)) == (through == "environment")


@pytest.mark.parametrize("value", ["", 7, b""])
def test_a_folder_that_is_no_path(value):
    with pytest.raises(ArgumentError, match="folder"):
        data.load("gsm8k", folder=value)


def test_a_missing_file_is_named_with_all_its_names(tmp_path):
    (tmp_path / "gsm8k" / "dev500.jsonl").mkdir(parents=True)  # a folder of that name is no file
    with pytest.raises(DataError, match=r"gsm8k, split 'dev'.*gsm8k/dev500\.jsonl, nor gsm8k/test\.jsonl"):
        data.load("gsm8k", folder=tmp_path)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    write(tmp_path, "gsm8k/dev500.jsonl", [problem(1)])

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    with pytest.raises(StorageError, match=r"dev500\.jsonl cannot be read: Permission denied"):
        data.load("gsm8k", folder=tmp_path)


# ---- the hub ----


class Rows(list):
    """A data set of the library, which counts the rows it is asked for."""

    asked = 0

    def __getitem__(self, at):
        type(self).asked += 1
        return super().__getitem__(at)


def library(monkeypatch, parts, offline=False):
    """A stand-in for the package ``datasets`` that has these parts."""
    module = ModuleType("datasets")
    module.config = SimpleNamespace(HF_HUB_OFFLINE=offline)
    module.calls = []

    def load_dataset(repository, configuration, *, split):
        module.calls.append((repository, configuration, split))
        if isinstance(parts, Exception):
            raise parts
        return parts[split]

    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_the_hub_has_the_same_splits(tmp_path, monkeypatch):
    rows = [problem(number) for number in range(300)]
    write(tmp_path, "gsm8k/train.jsonl", rows)
    module = library(monkeypatch, {"train": Rows(rows)})
    monkeypatch.setattr(Rows, "asked", 0)
    assert data.load("gsm8k", "train", folder="hub", limit=20) == data.load("gsm8k", "train", folder=tmp_path, limit=20)
    assert module.calls == [("openai/gsm8k", "main", "train")]
    assert Rows.asked == 20
    monkeypatch.setenv("DENSECORE_DATA", "hub")
    assert len(data.load("gsm8k", "train")) == 200


def test_the_hubs_two_parts_of_svamp_are_put_in_order(tmp_path, monkeypatch):
    rows = [{"ID": f"chal-{n}", "Body": f"Ann has {n} pens.", "Question": "How many?", "Answer": str(n), "Equation": f"{n}"}
            for n in range(1, 31)]  # fmt: skip
    write(tmp_path, "math/svamp.jsonl", rows)
    module = library(monkeypatch, {"train": Rows(rows[1::2]), "test": Rows(rows[::2])})
    for split in data.splits("svamp"):
        assert data.load("svamp", split, folder="hub") == data.load("svamp", split, folder=tmp_path)
    assert module.calls[:2] == [("ChilleD/SVAMP", None, "train"), ("ChilleD/SVAMP", None, "test")]


def test_a_bad_row_of_the_hub_is_named(monkeypatch):
    library(monkeypatch, {"test": Rows([problem(1), {"question": "?", "solution": "no"}])})
    with pytest.raises(
        DataError, match=r"openai/gsm8k main, test, row 1: field 'answer' is missing; the row has question"
    ):
        data.load("gsm8k", folder="hub")


def test_an_empty_part_of_the_hub(monkeypatch):
    library(monkeypatch, {"test": Rows()})
    with pytest.raises(DataError, match=r"gsm8k, split 'dev': the split has no rows, for its source has none"):
        data.load("gsm8k", folder="hub")


def test_without_the_package_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match="pip install datasets"):
        data.load("gsm8k", folder="hub")


def test_a_hub_that_fails(monkeypatch):
    library(monkeypatch, RuntimeError("connection reset"))
    with pytest.raises(DownloadError, match=r"openai/gsm8k main, test: RuntimeError: connection reset") as caught:
        data.load("gsm8k", folder="hub")
    assert not isinstance(caught.value, OfflineError)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_offline_and_not_downloaded_before(monkeypatch):
    library(monkeypatch, ConnectionError("offline mode"), offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="HF_HUB_OFFLINE is set"):
        data.load("gsm8k", folder="hub")


def test_a_library_that_would_go_online_is_not_called_when_offline(monkeypatch):
    module = library(monkeypatch, {"test": Rows([problem(1)])}, offline=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="before Python starts"):
        data.load("gsm8k", folder="hub")
    assert module.calls == []
    module.config.HF_HUB_OFFLINE = True
    assert data.load("gsm8k", folder="hub")[0].answer == "1"


def test_importing_stays_light():
    code = (
        "import sys, densecore; assert not [m for m in sys.modules if m.startswith(('densecore.data', 'densecore.metrics'))];"
        "before = set(sys.modules); import densecore.data;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before} - {'densecore'};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


# ---- the public files ----


@pytest.fixture
def real():
    if REAL is None:
        pytest.skip("benchmark data absent: set DENSECORE_DATA to the folder that holds gsm8k/")
    return REAL


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("gsm8k", {"train": 200, "dev": 500}), ("svamp", {"all": 1000, "select": 300, "rest": 700}),
     ("hotpotqa", {"dev": 556, "train": 640, "select": 159}), ("squad", {"dev": 9939, "train": 3997})],
)  # fmt: skip
def test_the_public_splits_have_their_sizes_and_share_nothing(real, name, sizes):
    rows = {split: data.load(name, split, folder=real) for split in sizes}
    assert {split: len(found) for split, found in rows.items()} == sizes
    asked = [(row.id, row.question) for split, found in rows.items() if split != "all" for row in found]
    assert len(set(asked)) == len(asked)


def test_the_public_questions_can_be_answered_from_their_paragraphs(real):
    for name in ("squad", "hotpotqa"):
        for split in ("dev", "train"):
            for row in data.load(name, split, folder=real):
                evidence = "\n".join(paragraph.text for paragraph in row.paragraphs)
                assert row.answers[0] in ("yes", "no") or all(answer in evidence for answer in row.answers), row.id
                assert set(row.supporting) <= {paragraph.title for paragraph in row.paragraphs}
                assert name == "squad" or len(row.supporting) == 2


def test_the_public_train_rows_are_those_of_the_data_page(real):
    with (real / "gsm8k" / "train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    random.Random(0).shuffle(rows)
    assert [row.solution for row in data.load("gsm8k", "train", folder=real)] == [r["answer"] for r in rows[:200]]
