"""A compile's folder and how a compile ends: killed, damaged, over its budget, on a full disk, over a dead server."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from densecore import errors

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
pytest.importorskip("optuna", reason="the extra `optimize`")
optimize = pytest.importorskip("densecore.optimize", reason="the extra `optimize`")
programs = pytest.importorskip("densecore.programs", reason="the extra `dspy`")
saved = pytest.importorskip("densecore.programs.saved", reason="the extra `dspy`")
scripted = pytest.importorskip("tests.scripted", reason="the extra `dspy`")
from tests.golden.test_optimize import ROOT, SMALL, command, lines, run, tiny  # noqa: E402

CHILD = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
from tests.golden.test_optimize_ends import logged
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

    monkeypatch.setattr("densecore.runs.journal.os.write", write)
    with pytest.raises(errors.StorageError, match="No space left"):
        run("labeled", folder=tmp_path)
    monkeypatch.undo()
    assert run("labeled", folder=tmp_path).score == run("labeled").score


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
