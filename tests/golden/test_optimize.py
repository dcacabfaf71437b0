"""Compiles: each optimiser finds what there is to find, nothing is asked twice, and nothing that was done is lost."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from densecore import data, errors
from tests.golden.fixtures import real_path

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
pytest.importorskip("optuna", reason="the extra `optimize`")
optimize = pytest.importorskip("densecore.optimize", reason="the extra `optimize`")
programs = pytest.importorskip("densecore.programs", reason="the extra `dspy`")
saved = pytest.importorskip("densecore.programs.saved", reason="the extra `dspy`")
scripted = pytest.importorskip("tests.scripted", reason="the extra `dspy`")

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {"adapter": "chat", "train_rows": 20, "select_rows": 40, "evaluations": 8}


def run(optimiser: str = "random", program: str = "ChainOfThought", lm: Any = None, **options: Any) -> Any:
    lm = scripted.scripted() if lm is None else lm
    return optimize.compile(program, "problems", optimiser=optimiser, lm=lm, **{**SMALL, **options})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ---- what is found ----


@pytest.mark.parametrize("seed", [random.randrange(2**31)])
@pytest.mark.parametrize("optimiser", optimize.names())
def test_each_optimiser_finds_what_there_is(optimiser: str, seed: int, tmp_path: Path) -> None:
    best = run(optimiser, seed=seed, folder=tmp_path)
    demos = [demo for each in best.program.predictors() for demo in each.demos]
    instructions = best.program.predictors()[0].signature.instructions
    assert best.score > best.start, seed
    if optimiser in ("copro", "gepa"):
        assert scripted.GOOD in instructions, seed
        assert not demos
    elif optimiser != "mipro":  # it may find either, or both
        assert demos
        shown = [demo.get("reasoning") == scripted.WORKING for demo in demos]
        assert any(shown) is (optimiser != "labeled"), "bootstrapped demonstrations have the program's own working"
    # The score is what the saved program scores with a language model that was never asked before.
    loaded, record = saved.load(tmp_path / "program.json")
    rows = {row.id: row for row in data.load("problems", "select")}
    chosen = optimize.compiled.choice.take("problems/select", "select", SMALL["select_rows"], 1, None, seed).rows
    with dspy.context(lm=scripted.scripted(), adapter=dspy.ChatAdapter()):
        right = [loaded(question=row.question).answer == rows[row.id].answer for row in chosen]
    assert sum(right) / len(right) == pytest.approx(best.score)
    facts = record["provenance"]
    assert facts["score"] == pytest.approx(max(facts["candidates"]))
    assert (facts["optimiser"], facts["seed"], facts["stopped"]) == (optimiser, seed, None)
    assert facts["train"]["from"] == "problems/train"
    assert facts["select"] == {**facts["select"], "from": "problems/select", "rows": 40}
    assert len(facts["candidates"]) <= SMALL["evaluations"]


def test_two_lines_of_python(tmp_path: Path) -> None:
    best = run("bootstrap")
    [row] = data.load("problems", "select", limit=1)
    assert best.program(question=row.question).answer == best(question=row.question).answer
    best.save(tmp_path / "best.json")
    loaded, record = saved.load(tmp_path / "best.json")
    assert saved.state_of(loaded) == saved.state_of(best.program)
    assert record["provenance"]["language_models"]["calls"] > 0


def test_the_start_is_a_candidate() -> None:
    """Where nothing helps, what was there before is given back rather than the last that was tried."""
    best = run("labeled", program="FewShot", options={"k": 0})
    assert (best.score, best.provenance["candidates"].index(best.score)) == (best.start, 0)
    assert len(best.program.predictors()[0].demos) == len(programs.make("FewShot", programs.MATH).predictors()[0].demos)


def test_the_teacher_demonstrates_and_the_student_is_scored() -> None:
    teacher, student = scripted.scripted(), scripted.scripted()
    teacher.model = "test/teacher"
    best = run("bootstrap", lm=student, teacher=teacher)
    assert 0 < len(teacher.engine.asked) <= SMALL["train_rows"]
    assert len(student.engine.asked) == 2 * SMALL["select_rows"]
    assert best.provenance["teacher"]["lm"] == "test/teacher"
    assert run("copro", lm=scripted.scripted(), teacher=teacher).score > best.start


@pytest.mark.parametrize("program", ["ChainOfThought", "MultiHop"])
def test_demonstrations_are_right_altogether(program: str, tmp_path: Path) -> None:
    """DSPy takes every score above 0 for a success; a half-right short answer must be no demonstration."""
    rows = [
        {"id": f"t{i}", "question": f"Who is number {i}?", "answer": "Ann Lee" if i % 2 else "Ann",
         "supporting_facts": [["Ann", 0]], "context": [["Ann", [f"Ann is number {i}."]]]}
        for i in range(30)
    ]  # fmt: skip
    (tmp_path / "hotpotqa").mkdir()
    (tmp_path / "hotpotqa" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def value(name: str, request: Any, system: str, turns: list[str]) -> str:
        """Half-right for odd numbers, unless there are demonstrations."""
        odd = int(re.findall(r"Who is number (\d+)\?", turns[-1])[-1]) % 2
        return "It says so." if name != "answer" else "Ann Lee" if odd and len(turns) > 1 else "Ann"

    lm = scripted.scripted()
    lm.engine._value = value
    best = optimize.compile(program, "hotpotqa", optimiser="bootstrap", lm=lm, adapter="chat", data=tmp_path,
                            options={"max_labeled_demos": 0})  # fmt: skip
    assert 0.5 < best.start < best.score == 1.0, "half of the answers are right at the start, the others in part"
    demos = [demo for each in best.program.predictors() for demo in each.demos]
    assert demos
    assert all(int(demo["question"].split()[-1][:-1]) % 2 == 0 for demo in demos)
    best.save(tmp_path / "best.json")
    assert saved.state_of(saved.load(tmp_path / "best.json")[0]) == saved.state_of(best.program)


# ---- what optimisers are shown ----


def test_feedback_reaches_the_reflection_and_rows_stay_out_of_sight() -> None:
    lm = scripted.scripted()
    texts: list[str] = []
    lm.engine.fails = lambda request: texts.append("".join(p.text for m in request.messages for p in m.parts))
    run("gepa", lm=lm)
    asked = [text for text in texts if "new_instruction" in text]
    assert any("Wrong: the answer was '-1'" in text and "A right solution:" in text for text in asked)
    texts.clear()
    run("mipro", lm=lm)
    assert any("Example(" in text for text in texts), "the data are summed up from examples"
    assert not any("Row(" in text or "row_id" in text for text in texts)


# ---- nothing twice ----

CHILD = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
from tests.golden.test_optimize import logged
logged(pathlib.Path(sys.argv[2]), sys.argv[3], 0.005)
"""


def logged(folder: Path, optimiser: str, seconds: float = 0.0) -> Any:
    """A run that writes down what it asks."""
    folder.mkdir(exist_ok=True)
    lm = scripted.scripted(log=folder / "asked", seconds=seconds)
    sizes = {"train_rows": 12, "select_rows": 24, "evaluations": 6, "threads": 4, "seed": 5}
    return run(optimiser, lm=lm, folder=folder, **sizes)


def until(path: Path, count: int, process: Any) -> None:
    """Wait for so many lines in a file."""
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("optimiser", ["random", "mipro", "gepa"])
def test_a_killed_run_goes_on_and_repeats_nothing(optimiser: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    straight = logged(whole, optimiser)
    wanted = (whole / "asked").read_text().splitlines()
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(ROOT), str(cut), optimiser], stderr=subprocess.PIPE)
    until(cut / "asked", random.randrange(len(wanted) // 3, 2 * len(wanted) // 3), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    best, record = saved.load(cut / "program.json")  # whole, whenever the kill came
    assert record["provenance"]["stopped"] == "unfinished"
    assert best.predictors()
    resumed = logged(cut, optimiser)
    facts = ("score", "start_score", "candidates", "language_models")
    assert [resumed.provenance[name] for name in facts] == [straight.provenance[name] for name in facts]
    assert saved.state_of(resumed.program) == saved.state_of(straight.program)
    asked = Counter((cut / "asked").read_text().splitlines())
    assert set(asked) == set(wanted)
    assert sum(asked.values()) <= len(wanted) + 4, "asked again was only what the kill found in work, in four threads"
    for name, key in (("answers", "number"), ("trials", "trial")):
        kept = lines(cut / f"{name}.jsonl")[1:]
        assert len({(each.get("request"), each[key]) for each in kept}) == len(kept)
        assert len(kept) == len(lines(whole / f"{name}.jsonl")) - 1
    assert logged(cut, optimiser).score == straight.score
    assert len((cut / "asked").read_text().splitlines()) == sum(asked.values()), "a finished run asks nothing more"


def test_a_line_cut_short_is_dropped(tmp_path: Path) -> None:
    first = run("bootstrap", folder=tmp_path)
    place = tmp_path / "answers.jsonl"
    whole = place.read_bytes()
    place.write_bytes(whole[: -random.randrange(1, len(whole.splitlines()[-1]))])
    lm = scripted.scripted()
    assert run("bootstrap", lm=lm, folder=tmp_path).score == first.score
    assert len(lm.engine.asked) == 1
    assert place.read_bytes() == whole


def test_draws_differ_from_one_another_and_not_from_run_to_run(tmp_path: Path) -> None:
    from densecore.optimize.answers import Answers
    from densecore.optimize.lines import Lines

    class Drawn(scripted.Rule):
        def _text(self, request: Any) -> str:
            return str(request.config.seed)

    def draws(seed: int, path: Path | None = None) -> list[str]:
        lines = Lines(path, "answers", {})
        lm = Answers(lines, seed).keeper(dspy.LM("test/drawn", engine=Drawn(), cache=False))
        found = [*lm("Say a number.", temperature=1.0, n=3), *lm("Say a number.", temperature=1.0)]
        found += [*lm("Say a number.", temperature=0.0, n=2), *lm("Say a number.", temperature=1.0, rollout_id=7)]
        lines.close()
        return found

    found = draws(1, tmp_path / "answers.jsonl")
    assert len(set(found)) == 6, "five draws, and the likeliest twice"
    assert found[4] == found[5] == "None"
    assert draws(1) == found == draws(2, tmp_path / "answers.jsonl"), "computed again, and as they were kept"
    assert draws(2) != found


def test_who_asks_the_same_at_once_waits_for_one_answer() -> None:
    """DSPy asks again for rows that are slow; a slow model must not do them twice."""
    from densecore.optimize.answers import Answers
    from densecore.optimize.lines import Lines

    begun, go = threading.Event(), threading.Event()

    def wait(request: Any) -> None:
        begun.set()
        go.wait(10)

    lm = scripted.scripted(fails=wait)
    answers = Answers(Lines(None, "answers", {}))
    kept, found = answers.keeper(lm), []
    threads = [threading.Thread(target=lambda: found.append(kept("Respond with `x`")[0])) for _ in range(6)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    time.sleep(0.1)
    go.set()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == len(lm.engine.asked) == answers.usage["calls"] == 1


def test_other_language_models_of_dspys_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose engine DSPy chooses itself: asked as a whole, key and retries included, and once."""
    from densecore.optimize.answers import Answers
    from densecore.optimize.lines import Lines

    engine = scripted.Rule()
    monkeypatch.setattr(dspy.LM, "__call__", lambda self, *given, **more: calls(self, *given, **more))
    real = dspy.BaseLM.__call__
    seen: list[Any] = []

    def calls(self: Any, *given: Any, **more: Any) -> Any:
        if isinstance(self.engine, str):
            seen.append(self)
            return engine.complete(given[0])
        return real(self, *given, **more)

    lm = dspy.LM("openai/gpt-4.1", api_key="sesame", temperature=0.5, num_retries=2)
    kept = Answers(Lines(None, "answers", {})).keeper(lm)
    assert len({kept("Respond with `x`")[0] for _ in range(3)}) == 1
    assert len(engine.asked) == 3, "three draws"
    assert {(each.kwargs["api_key"], each.num_retries, each.cache) for each in seen} == {("sesame", 2, False)}
    assert (kept.num_retries, kept.cache, kept.kwargs["temperature"]) == (0, False, 0.5)
    assert "api_key" not in kept.kwargs


def test_a_dense_engine_stays_one() -> None:
    """What adapters and programs have for our engine, they must have for it where its answers are kept."""
    from densecore.dspy import DenseAdapter, DenseLM
    from densecore.optimize.answers import Answers
    from densecore.optimize.lines import Lines

    lm = DenseLM(str(real_path("smollm2-135m-instruct")), max_tokens=24)
    answers = Answers(Lines(None, "answers", {}))
    kept = answers.keeper(lm)
    assert isinstance(kept, DenseLM)
    assert kept.engine.holds_grammar
    assert kept.dense is lm.dense
    assert copy.deepcopy(kept.engine) is kept.engine is kept.copy(temperature=1.0).engine
    with dspy.context(lm=kept, adapter=DenseAdapter()):
        legs = [dspy.Predict("question -> count: int")(question="How many legs has a goat?").count for _ in range(2)]
    assert type(legs[0]) is int
    assert legs[0] == legs[1]
    assert answers.computed == answers.usage["calls"] == 1


# ---- ends ----


def test_a_folder_is_one_runs(tmp_path: Path) -> None:
    run("labeled", folder=tmp_path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    for other in ({"seed": 1}, {"train_rows": 19}, {"options": {"k": 2}}, {"evaluations": 9}, {"adapter": "json"}):
        with pytest.raises(errors.DataError, match=f"another run.*{next(iter(other)).split('_')[0]}"):
            run("labeled", folder=tmp_path, **other)
    with pytest.raises(errors.DataError, match="temperature"):
        run("labeled", folder=tmp_path, lm=scripted.scripted().copy(temperature=0.3))
    with pytest.raises(errors.DataError, match="optimiser was 'labeled', is now 'bootstrap'"):
        run("bootstrap", folder=tmp_path)
    assert before == {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    run("labeled", folder=tmp_path, threads=3, minutes=5)


@pytest.mark.parametrize("name", ["answers.jsonl", "trials.jsonl"])
@pytest.mark.parametrize("line", [0, 1])
def test_a_file_that_is_none_of_a_run_is_refused(name: str, line: int, tmp_path: Path) -> None:
    run("labeled", folder=tmp_path)
    found = (tmp_path / name).read_text().splitlines()
    for bad in ("{", "[]", "{}"):
        (tmp_path / name).write_text("\n".join([*found[:line], bad, *found[line + 1 :]]) + "\n")
        with pytest.raises(errors.DataError, match=name):
            run("labeled", folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("trials.jsonl", "score", "hi"),
        ("trials.jsonl", "score", None),
        ("trials.jsonl", "score", 99.0),
        ("trials.jsonl", "score", float("nan")),
        ("trials.jsonl", "rows", [1]),
        ("trials.jsonl", "state", 3),
        ("answers.jsonl", "response", 5),
        ("answers.jsonl", "response", {}),
        ("answers.jsonl", "number", "first"),
    ],
)
def test_a_record_that_cannot_be_is_refused(name: str, field: str, value: Any, tmp_path: Path) -> None:
    run("labeled", folder=tmp_path)
    head, record, *rest = lines(tmp_path / name)
    (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in (head, {**record, field: value}, *rest)))
    with pytest.raises(errors.DataError, match=name):
        run("labeled", folder=tmp_path)


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text("my notes, without a last line's end")
    with pytest.raises(errors.DataError, match="my notes"):
        run("labeled", folder=tmp_path)
    assert (tmp_path / "answers.jsonl").read_text() == "my notes, without a last line's end"


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    def meanwhile(request: Any) -> None:
        with pytest.raises(errors.StorageError, match="being written by another run"):
            run("labeled", folder=tmp_path)
        told.append(request)

    told: list[Any] = []
    run("labeled", lm=scripted.scripted(fails=meanwhile), folder=tmp_path, select_rows=1, threads=1)
    assert told


def test_a_budget_of_evaluations_ends_the_run(tmp_path: Path) -> None:
    best = run("random", folder=tmp_path, evaluations=3)
    assert best.stopped == "evaluations"
    assert len(best.provenance["candidates"]) == 3
    assert best.provenance["language_models"]["calls"] <= 3 * SMALL["select_rows"] + SMALL["train_rows"]
    assert saved.load(tmp_path / "program.json")[1]["provenance"]["stopped"] == "evaluations"


def test_minutes_end_the_run_and_more_minutes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    for name in ("answers", "run"):
        fake = SimpleNamespace(monotonic=lambda: clock[0])
        monkeypatch.setattr(f"densecore.optimize.{name}.time", fake)

    def slow() -> Any:
        return scripted.scripted(fails=lambda request: clock.__setitem__(0, clock[0] + 1.0))

    with pytest.raises(errors.LimitError, match="before the first candidate"):
        run("random", lm=slow(), folder=tmp_path, minutes=0.25, threads=2)
    assert not (tmp_path / "program.json").exists()
    assert len(lines(tmp_path / "answers.jsonl")) - 1 in range(13, 17), "a second each, two at a time"
    best = run("random", lm=slow(), folder=tmp_path, minutes=1.5)
    assert best.stopped == "minutes"
    assert saved.load(tmp_path / "program.json")[1]["provenance"]["stopped"] == "minutes"
    done = run("random", folder=tmp_path)
    assert done.stopped is None
    assert done.score >= best.score
    assert done.score == run("random").score


def test_a_language_model_that_dies_ends_the_run(tmp_path: Path) -> None:
    """Its failures are no wrong answers: no candidate may get a score from them."""

    def dead(request: Any) -> None:
        if len(lm.engine.asked) >= 100:
            raise OSError("the line is dead")

    lm = scripted.scripted(fails=dead)
    with pytest.raises(errors.DenseCoreError, match="the line is dead") as caught:
        run("random", lm=lm, folder=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert saved.load(tmp_path / "program.json")[1]["provenance"]["stopped"] == "failed"
    assert len(lines(tmp_path / "trials.jsonl")) - 1 == 2
    worked = saved.load(tmp_path / "program.json")[1]["provenance"]["seconds"]
    again = run("random", folder=tmp_path)
    assert again.score == run("random").score
    assert again.provenance["seconds"] > worked, "the seconds of both starts"
    with pytest.raises(errors.DenseCoreError, match="the line is dead"):
        run("random", lm=scripted.scripted(fails=lambda request: dead_now()))


def dead_now() -> None:
    raise OSError("the line is dead")


@pytest.mark.parametrize("optimiser", ["labeled", "random"])
def test_a_program_that_cannot_run_has_no_score(optimiser: str, tmp_path: Path) -> None:
    with pytest.raises(errors.ArgumentError, match="hidden states need"):
        run(optimiser, program="PlanSolve", folder=tmp_path)
    assert not (tmp_path / "program.json").exists()
    assert len(lines(tmp_path / "trials.jsonl")) == 1, "the head alone"


def test_a_row_that_raises_costs_that_row_alone(tmp_path: Path) -> None:
    """Also where later candidates cannot be read at all, and where an optimiser looks at few rows at a time."""
    lm = scripted.scripted()
    known, asked = lm.engine._text, []

    def text(request: Any) -> str:
        asked.append(request)
        if len(asked) == 2:
            raise TimeoutError("once")
        return known(request) if len(asked) < 30 else "I would rather not."

    lm.engine._text = text
    best = run("random", lm=lm, folder=tmp_path)
    assert best.stopped is None
    assert 0 < best.score < 1
    assert len(best.provenance["candidates"]) > 2


def test_answers_that_cannot_be_read_are_wrong_answers() -> None:
    lm = scripted.scripted()
    known = lm.engine._text
    lm.engine._text = lambda request: known(request) if "19" in str(request.messages[-1]) else "I would rather not."
    best = run("bootstrap", lm=lm)
    assert 0 < best.score < 1


def test_an_optimiser_that_fails_leaves_the_best_so_far(tmp_path: Path) -> None:
    """MIPROv2 ends where a proposal cannot be read."""
    lm = scripted.scripted()
    known = lm.engine._text
    lm.engine._text = lambda request: "?" if "proposed_instruction" in str(request.messages[-1]) else known(request)
    with pytest.raises(errors.DenseCoreError, match="mipro ended in an error"):
        run("mipro", lm=lm, folder=tmp_path)
    assert saved.load(tmp_path / "program.json")[1]["provenance"]["stopped"] == "failed"


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = os.write, [20_000]

    def write(descriptor: int, content: bytes) -> int:
        left[0] -= len(content)
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, content)

    monkeypatch.setattr("densecore.optimize.lines.os.write", write)
    with pytest.raises(errors.StorageError, match="No space left"):
        run("labeled", folder=tmp_path)
    monkeypatch.undo()
    assert run("labeled", folder=tmp_path).score == run("labeled").score


# ---- bad input, and the command ----

BAD: list[tuple[dict[str, Any], str]] = [
    ({"optimiser": "magic"}, "magic.*labeled"),
    ({"program": "Nothing"}, "Nothing.*ZeroShot"),
    ({"set_name": "chess"}, "chess.*gsm8k"),
    ({"settings": {"no": 1}}, "no"),
    ({"options": {"no": 1}}, "no.*max_labeled_demos"),
    ({"options": {"max_labeled_demos": "4"}}, "max_labeled_demos = '4'.*int"),
    ({"options": {"max_labeled_demos": -1}}, "max_labeled_demos = -1"),
    ({"options": {"max_labeled_demos": True}}, "max_labeled_demos = True"),
    ({"train": "problems/dev"}, "train = 'problems/dev'.*problems/train"),
    ({"train": "problems/test"}, "reported"),
    ({"train": "gsm8k/dev"}, "gsm8k/train"),
    ({"select": "problems/dev"}, "select = 'problems/dev'.*svamp/select.*problems/select"),
    ({"select": "gsm8k/dev"}, "chosen"),
    ({"select": "svamp/all"}, "chosen"),
    ({"select": "svamp/rest"}, "chosen"),
    ({"select": "hotpotqa/select"}, "no math"),
    ({"select": "problems"}, "svamp/select"),
    ({"select": "chess/select"}, "chess"),
    ({"train_rows": 0}, "train rows = 0"),
    ({"select_rows": 501}, "select rows = 501"),
    ({"select_rows": "9"}, "select rows = '9'"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**40}, "seed"),
    ({"threads": 0}, "threads"),
    ({"evaluations": 1}, "evaluations"),
    ({"minutes": 0}, "minutes"),
    ({"minutes": "1"}, "minutes"),
    ({"minutes": float("nan")}, "minutes"),
    ({"lm": 5}, "lm = 5"),
    ({"adapter": "verse"}, "verse.*chat"),
    ({"adapter": 5}, "adapter = 5"),
    ({"program": "PlanSolve", "settings": {"edge": print}}, "settings.*plain JSON"),
    ({"program": "MultiHop"}, "MultiHop"),
]


@pytest.mark.parametrize(("given", "told"), BAD, ids=lambda each: str(each)[:50])
def test_bad_arguments(given: dict[str, Any], told: str, tmp_path: Path) -> None:
    lm = scripted.scripted()
    asked = {
        "program": "ChainOfThought",
        "set_name": "problems",
        "lm": lm,
        **SMALL,
        "folder": tmp_path / "run",
        **given,
    }
    with pytest.raises(errors.ArgumentError, match=told):
        optimize.compile(**asked)
    assert not lm.engine.asked
    assert not (tmp_path / "run").exists()


def command(*arguments: Any) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "densecore.optimize", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_without_optuna_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from densecore.optimize.__main__ import main\n"
        "sys.exit(main(['--optimiser', 'mipro']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'densecore[optimize]'" in done.stderr


def test_the_command_refuses_rows_that_are_reported() -> None:
    for option, place in (("--train-set", "gsm8k/dev"), ("--select-set", "problems/test")):
        process = command(option, place, "--model", "no-such-model")
        out, told = process.communicate(timeout=100)
        assert process.returncode == 2
        assert not out
        assert place in told
        assert "reported" in told


def tiny(folder: Path, optimiser: str) -> tuple[Any, ...]:
    """A run of the command with a small real model and short answers."""
    model = real_path("smollm2-135m-instruct")
    program = (
        "--program",
        "PlainChainOfThought:tokens=8",
        "--set",
        "problems",
        "--optimiser",
        optimiser,
        "--out",
        folder,
    )
    return ("--model", model, *program, "--adapter", "chat", "--train-rows", 4, "--select-rows", 4, "--threads", 4)


def test_the_command_with_a_real_model(tmp_path: Path) -> None:
    process = command(*tiny(tmp_path, "bootstrap"), "--option", "max_labeled_demos=1", "--json")
    out, told = process.communicate(timeout=250)
    assert process.returncode == 0, told
    assert not told
    facts = json.loads(out)
    program, record = saved.load(facts["saved"])
    assert record["provenance"].items() <= facts.items()
    assert facts["model"]["lm"].startswith("densecore/")
    assert facts["options"]["max_labeled_demos"] == 1
    assert facts["language_models"]["emitted_tokens"] > 0
    assert len(program.predictors()[0].demos) <= 1


def test_ctrl_c_leaves_whole_files(tmp_path: Path) -> None:
    process = command(*tiny(tmp_path, "copro"))
    until(tmp_path / "trials.jsonl", 2, process)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=100)
    assert process.returncode == 130, told
    assert not out
    assert "the same command goes on" in told
    assert "Traceback" not in told
    assert saved.load(tmp_path / "program.json")[1]["provenance"]["stopped"] == "interrupted"
    for name in ("answers.jsonl", "trials.jsonl"):
        assert lines(tmp_path / name)
        assert (tmp_path / name).read_bytes().endswith(b"\n")
