"""Compiles: each optimiser finds what there is to find, and nothing is asked twice."""

from __future__ import annotations

import copy
import json
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
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


def test_answers_that_cannot_be_read_are_wrong_answers() -> None:
    lm = scripted.scripted()
    known = lm.engine._text
    lm.engine._text = lambda request: known(request) if "19" in str(request.messages[-1]) else "I would rather not."
    best = run("bootstrap", lm=lm)
    assert 0 < best.score < 1


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
