"""Evaluations: what a run leaves, whatever happens to it; the command; its page in a browser."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from densecore import data, errors
from tests.browser import Browser, View, find
from tests.golden.fixtures import real_path

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
evaluation = pytest.importorskip("densecore.eval", reason="the extra `dspy`")

from densecore import programs  # noqa: E402
from densecore.eval import __main__ as command  # noqa: E402
from densecore.eval import choice  # noqa: E402
from densecore.eval.progress import Progress  # noqa: E402
from densecore.programs import lms  # noqa: E402
from densecore.report import Journal  # noqa: E402
from tests.answering import answering  # noqa: E402

ROWS = data.load("problems", "dev", limit=12)
KNOWN = {row.question: row for row in ROWS}


def solve(turns: list[str]) -> str:
    """Right of every other question."""
    row = next(row for question, row in KNOWN.items() if question in turns[-1])
    index = ROWS.index(row)
    return f"So it is.\n#### {row.answer if index % 2 == 0 else 'none'}"


def begin(folder: Path, rule: Any = solve, **options: Any) -> Any:
    lm = answering(rule)
    options = {"model": "test", "adapter_name": "chat", **options}
    return evaluation.begin("PlainChainOfThought", "problems", "dev", lm, folder, **options)


def run(folder: Path, rule: Any = solve, **options: Any) -> Any:
    made = begin(folder, rule, **options)
    evaluation.take_turns([made], ROWS, threads=4, piece=5)
    made.journal.close()
    return made


class TestRun:
    def test_every_question_is_asked_once_and_judged(self, tmp_path: Path) -> None:
        made = run(tmp_path)
        assert len(made.lm.engine.asked) == len(ROWS)
        found = Journal.read(made.journal.path).examples
        assert [each.id for each in found] == [row.id for row in ROWS]
        assert [each.correct for each in found] == [i % 2 == 0 for i in range(12)]
        assert {each.failure for each in found if not each.correct} == {"no answer"}
        assert all(each.emitted_tokens and each.prompt_tokens and each.seconds for each in found)
        assert found[0].text.endswith(f"#### {ROWS[0].answer}")

    def test_an_exception_is_an_answer_of_one_question(self, tmp_path: Path) -> None:
        def rule(turns: list[str]) -> str:
            if ROWS[3].question in turns[-1]:
                raise RuntimeError("broken here")
            return solve(turns)

        found = Journal.read(run(tmp_path, rule).journal.path).examples
        assert [each.index for each in found if each.error] == [3]
        assert "broken here" in (found[3].error or "")
        assert not found[3].correct
        assert found[4].correct

    @pytest.mark.parametrize("rows", [3, 40])
    def test_a_run_whose_answers_all_raise_is_given_up_and_keeps_none(self, tmp_path: Path, rows: int) -> None:
        def rule(turns: list[str]) -> str:
            raise PermissionError("no such key")

        made = begin(tmp_path, rule)
        with pytest.raises(errors.DenseCoreError, match=r"its last \d+ answers all raised.*no such key"):
            evaluation.take_turns([made], data.load("problems", "dev", limit=rows), threads=2)
        made.journal.close()
        assert len(made.lm.engine.asked) <= 20
        assert not Journal.read(made.journal.path).examples
        assert len(Journal.read(run(tmp_path).journal.path).examples) == len(ROWS), "it can go on"

    def test_a_server_that_dies_half_way_costs_no_answers(self, tmp_path: Path) -> None:
        rows, answered = data.load("problems", "dev", limit=40), []

        def dying(turns: list[str]) -> str:
            answered.append(1)
            if len(answered) > 7:
                raise ConnectionError("refused")
            return "#### 1"

        made = begin(tmp_path, dying)
        with pytest.raises(errors.DenseCoreError, match=r"goes on.*refused"):
            evaluation.take_turns([made], rows, threads=2)
        made.journal.close()
        assert len(Journal.read(made.journal.path)) == 7
        again = begin(tmp_path, lambda turns: "#### 1")
        evaluation.take_turns([again], rows, threads=2)
        again.journal.close()
        found = Journal.read(again.journal.path).examples
        assert (len(found), [each.error for each in found if each.error]) == (40, [])

    def test_an_answer_that_comes_late_says_nothing_of_what_failed_meanwhile(self, tmp_path: Path) -> None:
        """It was on its way when the server died."""
        asked: list[int] = []

        def dying(turns: list[str]) -> str:
            asked.append(1)
            if len(asked) > 1:
                raise ConnectionError("refused")
            until = time.monotonic() + 60
            while len(asked) < 7 and time.monotonic() < until:
                time.sleep(0.001)
            return "#### 1"

        made = begin(tmp_path, dying)
        with pytest.raises(errors.DenseCoreError, match="refused"):
            evaluation.take_turns([made], data.load("problems", "dev", limit=40), threads=2)
        made.journal.close()
        assert [each.error for each in Journal.read(made.journal.path).examples] == [None]

    def test_answers_that_cannot_be_read_are_the_models_own_failure(self, tmp_path: Path) -> None:
        lm = answering(lambda turns: "no fields here")
        made = evaluation.begin("ZeroShot", "problems", "dev", lm, tmp_path, model="test", adapter_name="chat")
        evaluation.take_turns([made], data.load("problems", "dev", limit=20), threads=4)
        made.journal.close()
        assert len(Journal.read(made.journal.path)) == 20

    def test_other_rows_under_the_same_ids_are_refused(self, tmp_path: Path) -> None:
        made = begin(tmp_path)
        evaluation.take_turns([made], ROWS[:2], threads=1)
        rows = [replace(ROWS[0], question="Another one?"), *ROWS[1:]]
        with pytest.raises(errors.DataError, match=r"another question.*Another one"):
            evaluation.take_turns([begin(tmp_path / "b"), made], rows, threads=1)
        made.journal.close()

    def test_a_fresh_start_waits_for_the_other_to_end(self, tmp_path: Path) -> None:
        made = begin(tmp_path)
        evaluation.take_turns([made], ROWS[:2], threads=1)
        with pytest.raises(errors.StorageError, match="being written"):
            begin(tmp_path, fresh=True)
        made.journal.close()
        assert len(Journal.read(made.journal.path)) == 2
        with made.journal.path.open("a") as file:
            file.write("damage\n")
        begin(tmp_path, fresh=True).journal.close()
        assert len(Journal.read(made.journal.path)) == 0

    def test_first_answers_that_raise_are_kept_once_one_does_not(self, tmp_path: Path) -> None:
        def rule(turns: list[str]) -> str:
            if any(row.question in turns[-1] for row in ROWS[:4]):
                raise RuntimeError("broken here")
            return solve(turns)

        found = Journal.read(run(tmp_path, rule).journal.path).examples
        assert [bool(each.error) for each in found] == [True] * 4 + [False] * 8

    def test_last_answers_that_raise_are_kept_where_a_start_before_had_others(self, tmp_path: Path) -> None:
        def rule(turns: list[str]) -> str:
            if any(row.question in turns[-1] for row in ROWS[10:]):
                raise RuntimeError("broken here")
            return solve(turns)

        made = begin(tmp_path)
        evaluation.take_turns([made], ROWS[:10], threads=2)
        made.journal.close()
        again = run(tmp_path, rule)
        assert [bool(each.error) for each in Journal.read(again.journal.path).examples] == [False] * 10 + [True] * 2
        assert len(again.lm.engine.asked) == 3, "one was asked once more, to see whether anything answers"

    def test_last_answers_that_raise_are_not_kept_where_nothing_answers_any_more(self, tmp_path: Path) -> None:
        def dead(turns: list[str]) -> str:
            raise ConnectionError("refused")

        made = begin(tmp_path)
        evaluation.take_turns([made], ROWS[:10], threads=2)
        made.journal.close()
        again = begin(tmp_path, dead)
        with pytest.raises(errors.DenseCoreError, match=r"its last 2 answers.*refused"):
            evaluation.take_turns([again], ROWS, threads=2)
        again.journal.close()
        assert len(Journal.read(again.journal.path)) == 10
        assert len(Journal.read(run(tmp_path).journal.path)) == len(ROWS)

    def test_quick_failures_do_not_outrun_slow_answers(self, tmp_path: Path) -> None:
        rows = data.load("problems", "dev", limit=96)
        bad = {row.question for row in rows[::4]}

        def rule(turns: list[str]) -> str:
            if any(question in turns[-1] for question in bad):
                raise ValueError("this one")
            time.sleep(0.1)
            return "#### 1"

        made = begin(tmp_path, rule)
        evaluation.take_turns([made], rows, threads=64)
        made.journal.close()
        found = Journal.read(made.journal.path).examples
        assert [bool(each.error) for each in found] == [index % 4 == 0 for index in range(96)]

    def test_a_server_that_comes_and_goes_leaves_no_failure_of_a_given_up_run(self, tmp_path: Path) -> None:
        rows, turn = data.load("problems", "dev", limit=200), random.Random(7)

        def rule(turns: list[str]) -> str:
            time.sleep(turn.random() / 500)
            if turn.random() < 0.97:
                raise ConnectionError("refused")
            return "#### 1"

        for attempt in range(8):
            made = begin(tmp_path / str(attempt), rule)
            given_up = False
            try:
                evaluation.take_turns([made], rows, threads=32)
            except errors.DenseCoreError:
                given_up = True
            held = len(made.journal)
            time.sleep(0.05)
            assert len(made.journal) == held, "kept after the end"
            made.journal.close()
            assert given_up == (held < len(rows))

    def test_a_run_goes_on_where_it_was(self, tmp_path: Path) -> None:
        made = begin(tmp_path)
        evaluation.take_turns([made], ROWS[:5], threads=2)
        made.journal.close()
        again = run(tmp_path)
        assert len(again.lm.engine.asked) == len(ROWS) - 5
        assert len(Journal.read(again.journal.path)) == len(ROWS)
        with pytest.raises(errors.DataError, match=r"seed.*--fresh"):
            begin(tmp_path, seed=4)

    def test_programs_take_turns(self, tmp_path: Path) -> None:
        order: list[str] = []
        first, second = begin(tmp_path, name="a"), begin(tmp_path, name="b")
        evaluation.take_turns(
            [first, second], ROWS, threads=3, piece=4, seen=lambda run, example: order.append(run.name)
        )
        assert order == (["a"] * 4 + ["b"] * 4) * 3

    def test_an_interrupt_leaves_what_is_done_and_nothing_later(self, tmp_path: Path) -> None:
        slow = threading.Event()

        def rule(turns: list[str]) -> str:
            if ROWS[5].question in turns[-1]:
                slow.wait(20)
            return solve(turns)

        def interrupt(run: Any, example: Any) -> None:
            if len(run.journal) == 6:
                raise KeyboardInterrupt

        made = begin(tmp_path, rule)
        with pytest.raises(KeyboardInterrupt):
            evaluation.take_turns([made], ROWS, threads=2, seen=interrupt)
        held = len(Journal.read(made.journal.path))
        slow.set()
        time.sleep(0.3)
        assert len(Journal.read(made.journal.path)) == held, "an answer came after the run had ended"

    def test_the_model_says_who_it_is(self, tmp_path: Path) -> None:
        path = real_path("smollm2-135m-instruct")
        lm = evaluation.language_model(str(path))
        made = evaluation.begin("PlanSolve", "problems", "dev", lm, tmp_path, model=str(path), adapter_name="chat")
        head = made.journal.header
        made.journal.close()
        assert head.model == path.stem
        assert str(path.parent) not in json.dumps([head.model, head.run, head.settings])
        assert head.model_hash
        assert head.quantisation.startswith("Q")

    def test_compiled_programs_are_run(self, tmp_path: Path) -> None:
        program = programs.make("PlainChainOfThought", programs.MATH)
        program.predictors()[0].demos = [dspy.Example(question="1 + 1?", solution="#### 2").with_inputs("question")]
        programs.save(tmp_path / "best.json", program, "PlainChainOfThought", programs.MATH)
        made = run(tmp_path, compiled=tmp_path / "best.json")
        assert all("1 + 1?" in turns[0] for turns, _ in made.lm.engine.asked if len(turns) > 1)
        assert any(len(turns) > 1 for turns, _ in made.lm.engine.asked)
        assert "compiled" in made.journal.header.settings
        with pytest.raises(errors.ArgumentError, match="PlainChainOfThought"):
            evaluation.begin(
                "ZeroShot",
                "problems",
                "dev",
                made.lm,
                tmp_path,
                model="x",
                adapter_name="chat",
                compiled=tmp_path / "best.json",
            )

    def test_a_compiled_program_has_its_own_settings(self, tmp_path: Path) -> None:
        program = programs.make("PlainChainOfThought", programs.MATH, tokens=7)
        programs.save(tmp_path / "best.json", program, "PlainChainOfThought", programs.MATH, {"tokens": 7})
        made = begin(tmp_path, compiled=tmp_path / "best.json")
        made.journal.close()
        assert made.journal.header.settings["tokens"] == 7
        with pytest.raises(errors.ArgumentError, match="'tokens': 7"):
            begin(tmp_path, compiled=tmp_path / "best.json", settings={"tokens": 9})

    @pytest.mark.parametrize(
        ("program", "told"),
        [
            ("ChainOfThought", {"adapter": "chat", "temperature": 0.5, "max_tokens": 99}),
            ("PlainChainOfThought", {"adapter": "plain", "temperature": 0.5, "tokens": 400}),
            ("PromptPlanSolve", {"adapter": "plain", "temperature": 0.5, "plan_tokens": 160, "tokens": 400}),
            ("PlanSolve", {"adapter": "plain", "temperature": 0.0, "steps": 300, "answer_tokens": 10}),
        ],
    )
    def test_it_says_what_applied(self, program: str, told: dict[str, Any], tmp_path: Path) -> None:
        lm = answering(solve).copy(temperature=0.5, max_tokens=99)
        made = evaluation.begin(program, "problems", "dev", lm, tmp_path, model="test", adapter_name="chat")
        made.journal.close()
        assert made.journal.header.settings == told

    def test_an_api_is_not_priced_as_this_machine(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        made = run(tmp_path)
        assert made.journal.header.answered_by == "api"
        told = ["--compare", made.name, run(tmp_path, name="again").name, "--out", str(tmp_path)]
        assert call(*told) == 0
        assert "lm_input" in capsys.readouterr().out


class TestProgress:
    def test_the_bar_says_how_far_and_how_well(self, tmp_path: Path) -> None:
        made = begin(tmp_path)
        seen = Progress([made], len(ROWS), show=True)
        evaluation.take_turns([made], ROWS, threads=2, piece=5, seen=seen)
        said = str(seen._bars[made.name].bar.drawn)
        seen.close()
        made.journal.close()
        assert f"{len(ROWS)}/{len(ROWS)}" in said
        assert "50.0%" in said, "every other answer is right"
        assert "tokens/s" in said

    def test_what_was_answered_before_counts(self, tmp_path: Path) -> None:
        run(tmp_path)
        again = begin(tmp_path)
        seen = Progress([again], len(ROWS), show=True)
        said = str(seen._bars[again.name].bar.drawn)
        seen.close()
        again.journal.close()
        assert f"{len(ROWS)}/{len(ROWS)}" in said


def model() -> str:
    return str(real_path("smollm2-135m-instruct"))


def named(program: str, **settings: Any) -> str:
    """What the command calls a run of that model."""
    return choice.run_name("problems", "dev", program, settings, model=model())


def call(*arguments: str) -> int:
    return command.main([*arguments, "--model", model(), "--quiet"])


@pytest.fixture(scope="class")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two programs through the command."""
    folder = tmp_path_factory.mktemp("eval")
    modules = "PlanSolve:steps=12,PlainChainOfThought:tokens=24"
    assert call("--out", str(folder), "--limit", "3", "--module", modules) == 0
    return folder


class TestCommand:
    def test_the_summary_has_its_rows(self, done: Path) -> None:
        held = json.loads((done / "problems-dev.json").read_text())
        rows = {row["run"]: row for row in held["rows"]}
        assert set(rows) == {named("PlanSolve", steps=12), named("PlainChainOfThought", tokens=24)}
        assert all(name.startswith("problems-dev-Pla") for name in rows)
        for row in rows.values():
            assert row["n"] == 3
            assert 0 <= row["accuracy"] <= 1
            assert len(row["interval"]) == 2
            assert row["positions"] > 0
            assert row["seconds"] > 0
        dense, text = rows.values()
        assert 0 < dense["latent_steps"] <= 12
        assert text["latent_steps"] == 0
        assert 0 < text["emitted_tokens"] <= 24
        assert {"command", "seed", "model_hash", "machine"} <= set(held)

    def test_it_shows_a_table_and_says_where_the_page_lies(
        self, done: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        modules = "PlanSolve:steps=12,PlainChainOfThought:tokens=24"
        assert call("--out", str(done), "--limit", "3", "--module", modules) == 0
        shown = capsys.readouterr().out
        assert "accuracy" in shown
        assert "latent" in shown
        assert str(done / "problems-dev.html") in shown
        assert "McNemar" in shown

    def test_two_runs_are_compared(self, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
        names = [named("PlanSolve", steps=12), named("PlainChainOfThought", tokens=24)]
        assert command.main(["--out", str(done), "--compare", *names]) == 0
        assert "McNemar" in capsys.readouterr().out
        assert command.main(["--out", str(done), "--compare", "nothing", "more"]) == 1
        assert "nothing.jsonl" in capsys.readouterr().err

    def test_fresh_answers_again(self, done: Path) -> None:
        path = choice.place(done, named("ZeroShot"))
        again = ("--out", str(done), "--limit", "1", "--module", "ZeroShot", "--adapter", "chat", "--max-tokens", "8")
        assert call(*again) == 0
        before = Journal.read(path).examples[0].ended
        assert call(*again) == 0
        assert Journal.read(path).examples[0].ended == before
        assert call(*again, "--fresh") == 0
        assert Journal.read(path).examples[0].ended > before

    def test_the_page_opens_in_a_browser(self, done: Path, tmp_path: Path) -> None:
        program = find()
        if program is None:
            pytest.skip("no Chromium here; on Debian: apt-get install chromium")
        browser = Browser(program, tmp_path / "profile")
        try:
            view = View(browser, done / "problems-dev.html", 360, "dark")
            assert "PlanSolve" in view.value("document.body.innerText")
            assert view.complaints() == []
        finally:
            browser.close()

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--module", "Plan"], "PlanSolve"),
            (["--module", "PlanSolve:mode"], "name=value"),
            (["--module", "PlanSolve:mode=loud"], "mixture, state, token"),
            (["--module", "PlanSolve:depth=3"], "depth"),
            (["--module", "PlanSolve:name=3:task=4"], "name"),
            (["--module", "ZeroShot,Plan"], "PlanSolve"),
            (["--prices", "/nowhere/prices.json"], "nowhere"),
            (["--fresh", "--load", "/nowhere/best.json", "--module", "ZeroShot"], "nowhere"),
            (["--api-base", "http://127.0.0.1:1"], "dspy:PROVIDER/NAME"),
            (["--module", "PlanSolve:steps=abc"], "steps"),
            (["--module", "PlanSolve:answer_tokens=0"], "answer_tokens"),
            (["--module", "PlanSolve:hand_over=vectors:last=0"], "last"),
            (["--module", "PlanSolve:hand_over=vectors:edge=mine"], "edge"),
            (["--module", "PlainChainOfThought:tokens=abc"], "tokens"),
            (["--module", "PromptPlanSolve:plan_tokens=0"], "plan_tokens"),
            (["--module", "PromptPlanSolve:planner=gpt"], "dspy.LM"),
            (["--module", "ZeroShot,ZeroShot"], "twice"),
            (["--module", "ZeroShot,PlainChainOfThought", "--max-tokens", "5"], "PlainChainOfThought:tokens=400"),
            (["--max-tokens", "5"], "PlanSolve:steps=300:answer_tokens=10"),
            (["--temperature", "1"], "PlanSolve draws nothing"),
            (["--import", "no_such_module"], "no_such_module"),
            (["--set", "gsm9k"], "gsm8k"),
            (["--split", "tset"], "test"),
            (["--limit", "0"], "limit"),
            (["--adapter", "xml"], "dense, chat, json"),
            (["--module", "PlanSolve,ZeroShot", "--run", "x"], "one program"),
        ],
    )
    def test_bad_arguments(
        self, arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert call("--out", str(tmp_path), *arguments) in (1, 2)
        assert says in capsys.readouterr().err
        assert not list(tmp_path.iterdir()), "a journal was begun"

    def test_programs_of_ones_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "my_programs.py").write_text(
            "import dspy\nfrom densecore import programs\n\n@programs.register\nclass Mine(dspy.Module):\n"
            "    def __init__(self, task, *, tokens=4):\n        super().__init__()\n"
            "        self.say = dspy.Predict(task.signature, max_tokens=32 + tokens)\n\n"
            "    def forward(self, **inputs):\n        return self.say(**inputs)\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend("")
        asked = ["--import", "my_programs", "--module", "Mine:tokens=9", "--limit", "2", "--out", str(tmp_path)]
        assert call(*asked) == 0
        (place,) = tmp_path.glob("*Mine*.jsonl")
        found = Journal.read(place)
        assert (found.header.program, found.header.settings["tokens"], len(found)) == ("Mine", 9, 2)
        programs._PROGRAMS.pop("Mine")

    @pytest.mark.parametrize("option", ["--threads", "--piece", "--max-tokens"])
    @pytest.mark.parametrize("value", ["0", "-1", "x"])
    def test_counts_are_counts(self, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            call(option, value)
        assert f"{option}: '{value}'" in capsys.readouterr().err

    @pytest.mark.parametrize("value", ["nan", "-1", "inf", "warm"])
    def test_a_temperature_is_a_number(self, value: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            call("--temperature", value)
        assert f"--temperature: '{value}'" in capsys.readouterr().err

    def test_an_api_has_no_states(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--model", "dspy:openai/x", "--module", "PlanSolve", "--out", str(tmp_path)]) == 2
        assert "hidden states" in capsys.readouterr().err

    def test_a_server_answers(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Over HTTP, as vLLM's would; its price is the user's to say."""
        asked: list[dict[str, Any]] = []

        class Server(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                message = {"role": "assistant", "content": "So it is.\n#### 2"}
                usage = {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                told = {"id": "x", "object": "chat.completion", "created": 1, "model": "tiny"}
                body = json.dumps({**told, "choices": [choice], "usage": usage}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        monkeypatch.setenv("OPENAI_API_KEY", "none")
        (tmp_path / "prices.json").write_text('{"lm_input": 1.0, "lm_output": 10.0}')
        command_line = ["--out", str(tmp_path), "--limit", "3", "--module", "PlainChainOfThought", "--quiet"]
        with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            base = f"http://127.0.0.1:{server.server_port}/v1"
            command_line += ["--model", "dspy:openai/tiny", "--api-base", base]
            assert command.main(command_line) == 0
            assert "lm_input" in capsys.readouterr().out
            assert command.main([*command_line, "--prices", str(tmp_path / "prices.json"), "--json"]) == 0
            server.shutdown()
        assert len(asked) == 3, "what was answered is not asked again"
        assert {each["model"] for each in asked} == {"tiny"}
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert (row["model"], row["answered_by"], row["emitted_tokens"]) == ("openai/tiny", "server", 9)
        assert row["usd"] == pytest.approx((50 * 1.0 + 9 * 10.0) / 1e6)

    def test_a_folder_that_cannot_be_one(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_text("")
        assert call("--out", str(tmp_path / "file"), "--limit", "1", "--module", "ZeroShot") == 1
        assert "cannot write the journal" in capsys.readouterr().err

    def test_bad_data_is_named_by_file_and_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("--set", "gsm8k", "--data", str(tmp_path / "none")) == 1
        assert "none" in capsys.readouterr().err
        (tmp_path / "gsm8k").mkdir()
        (tmp_path / "gsm8k" / "dev500.jsonl").write_text('{"question": "a", "answer": "#### 1"}\n{"question": \n')
        assert call("--set", "gsm8k", "--data", str(tmp_path), "--out", str(tmp_path)) == 1
        assert "dev500.jsonl, line 2" in capsys.readouterr().err

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
    def test_a_killed_command_goes_on(self, how: signal.Signals, tmp_path: Path) -> None:
        asked = [
            sys.executable,
            "-m",
            "densecore.eval",
            "--out",
            str(tmp_path),
            "--module",
            "PlainChainOfThought:tokens=60",
        ]
        asked += ["--model", model(), "--limit", "40", "--threads", "2"]
        journal = choice.place(tmp_path, named("PlainChainOfThought", tokens=60))
        process = subprocess.Popen(asked, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if journal.exists() and len(journal.read_bytes().splitlines()) > 3:
                break
            time.sleep(0.05)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert process.returncode == (130 if how == signal.SIGINT else -how)
        assert ("goes on" in said) == (how == signal.SIGINT)
        kept = {each.id: each.ended for each in Journal.read(journal).examples}
        assert 3 <= len(kept) < 40
        limit = str(len(kept) + 1)
        subprocess.run([*asked[:-4], "--limit", limit, "--threads", "2"], check=True, capture_output=True)
        after = {each.id: each.ended for each in Journal.read(journal).examples}
        assert kept.items() <= after.items()
        assert len(after) == len(kept) + 1


def test_names_lead_to_files() -> None:
    assert choice.place("f", "a/../b").name == "a-..-b.jsonl"
    with pytest.raises(errors.ArgumentError, match="dense, chat, json"):
        lms.adapter("xml")
