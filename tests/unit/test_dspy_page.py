"""The page on DSPy keeps its word: its code runs as it stands, its commands are there, its pitfalls are DSPy's still."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")

from dspy.clients.cache import Cache  # noqa: E402
from tests.answering import answering  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dspy.md"
TEXT = PAGE.read_text(encoding="utf-8")
LARGE, SMALL = "qwen2.5-coder-1.5b-instruct", "smollm2-135m-instruct"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_code_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """With a small model and short answers; in a process of its own, for it sets DSPy's language model for good."""
    code = "\n".join(blocks("python"))
    assert code.count(LARGE) == code.count("max_tokens=400") == 1
    code = code.replace(LARGE, SMALL).replace("max_tokens=400", "max_tokens=64")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DSPY_CACHEDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shown = done.stdout.splitlines()
    assert shown[0].isdigit()  # under DenseAdapter an int is an int, whatever the model knows of goats
    assert shown[1] in ("complaint", "question", "praise")
    assert any(line.startswith("densecore/") for line in shown)
    emitted, latent, positions = map(int, next(line for line in shown if re.fullmatch(r"\d+ \d+ \d+", line)).split())
    assert emitted <= 10 < latent <= 40 < positions
    pieces = next(int(found[1]) for line in shown if (found := re.match(r"(\d+) pieces: .", line)))
    assert pieces > 1, "a stream comes in pieces"
    assert any(re.fullmatch(r"(True|False) \(\d+, 576\)", line) for line in shown)
    assert re.match(r"(0|1)\.\d+ ", shown[-1]), "a score, and an answer"


@pytest.mark.parametrize(
    "line", [line for block in blocks("sh") for line in block.splitlines() if "-m densecore" in line]
)
def test_the_commands_are_there(line: str) -> None:
    module, *arguments = shlex.split(line)[2:]
    command = __import__(f"{module}.__main__", fromlist=["_parser"])
    options = command._parser().parse_args(arguments)
    named = getattr(options, "module", getattr(options, "program", None)) or command.MODULES
    names = {name.split(":")[0] for name in named.split(",")}
    programs = __import__("densecore.programs", fromlist=["names"])
    assert names <= set(programs.names())


# ---- pitfalls: what the table says of DSPy ----


def rule(turns: list[str]) -> str:
    return "[[ ## answer ## ]]\nfour\n\n[[ ## completed ## ]]"


def compiled(metric: Any, **options: Any) -> tuple[Any, Any]:
    """A program that had its own language model, and what became of it."""
    program = dspy.Predict("question -> answer")
    lm = answering(rule)
    program.set_lm(lm)
    rows = [dspy.Example(question="2 + 2?", answer="four").with_inputs("question")]
    with dspy.context(lm=lm):
        optimiser = dspy.BootstrapFewShot(metric=metric, max_labeled_demos=0, **options)
        return program, optimiser.compile(program, trainset=rows)


def test_optimisers_reset_what_was_bound() -> None:
    before, after = compiled(lambda example, prediction, trace=None: 1.0)
    assert before.lm is not None
    assert after.lm is None


@pytest.mark.parametrize(("threshold", "demonstrations"), [(None, 1), (1.0, 0)])
def test_any_score_is_a_success_without_a_threshold(threshold: float | None, demonstrations: int) -> None:
    _, after = compiled(lambda example, prediction, trace=None: 0.1, metric_threshold=threshold)
    assert len(after.demos) == demonstrations


def test_a_repeated_request_is_answered_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dspy, "cache", Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None))
    lm = answering(rule, "test/cached")
    lm.cache = True
    asked = [{"role": "user", "content": "2 + 2?"}]
    for rollout in (None, None, 1):
        lm(messages=asked, temperature=1.0, rollout_id=rollout)
    assert len(lm.engine.asked) == 2


def test_several_answers_are_drawn_warm() -> None:
    lm = answering(rule)
    heat: list[float] = []
    complete = lm.engine.complete
    lm.engine.complete = lambda request: heat.append(request.config.temperature) or complete(request)
    with dspy.context(lm=lm):
        dspy.Predict("question -> answer", n=3)(question="2 + 2?")
    assert heat == [0.7] * 3
