"""From what a user names to what runs: a program, and the head of its journal."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy

from densecore import programs
from densecore.command import MODEL
from densecore.dspy import DenseLM
from densecore.errors import ArgumentError
from densecore.models import resolve
from densecore.optimize.run import PROGRAM
from densecore.programs import lms
from densecore.programs.saved import digest
from densecore.programs.task import Task, task_of
from densecore.report import Header, Journal
from densecore.report.record import API, SERVER

from .run import Run

_QUANTISATION = re.compile(r"(?:IQ|Q)\d+_\w+|BF16|F16|F32", re.IGNORECASE)


def begin(
    program: str,
    set_name: str,
    split: str,
    lm: dspy.LM,
    folder: str | os.PathLike[str],
    *,
    model: str,
    name: str | None = None,
    adapter_name: str = "dense",
    compiled: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    resume: bool = True,
    fresh: bool = False,
) -> Run:
    """A run, new or gone on with, its journal open in ``folder``.

    Args:
        program: One of :func:`densecore.programs.names`.
        set_name: The data set, for the task.
        split: Its split.
        lm: From :func:`densecore.programs.lms.language_model`.
        folder: Where journals lie.
        model: The name the model was asked for by.
        name: Of the run; made of the rest by default.
        adapter_name: One of ``densecore.programs.lms.ADAPTERS``.
        compiled: A program that ``densecore.optimize`` saved, instead of a new one.
        settings: Of the program; a saved one has its own.
        seed: Of the problems, and of drawn answers.
        resume: Go on with a journal that is there; otherwise it is an error.
        fresh: Forget what is in it.
    """
    task = task_of(set_name)
    made, chosen, origin = _program(program, task, dict(settings or {}), compiled)
    asked = {"adapter": getattr(made, "adapter", adapter_name), **lms.limits(made, lm)}
    header = Header.begin(
        run=name or run_name(set_name, split, program, {} if compiled else chosen, compiled, model),
        set=set_name,
        split=split,
        program=program,
        seed=seed,
        metric=task.metric_name,
        settings={**asked, **chosen, **origin},
        **_weights(lm, model),
    )
    held = place(folder, header.run)
    return Run(made, task, lm, lms.adapter(adapter_name), Journal.open(held, header, resume=resume, fresh=fresh))


def check(
    program: str,
    set_name: str,
    *,
    model: str,
    adapter_name: str = "dense",
    compiled: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    temperature: float = 0.0,
    max_tokens: int | None = None,
) -> None:
    """Raise what :func:`begin` would of these, or what the program would not heed, before a model is loaded."""
    lms.adapter(adapter_name)
    made, _, _ = _program(program, task_of(set_name), dict(settings or {}), compiled)
    lms.heeds(made, program, model, temperature, max_tokens)


def place(folder: str | os.PathLike[str], run: str) -> Path:
    """Where a run's journal lies.

    >>> place("out", "gsm8k-dev-PlanSolve-mode=token").name
    'gsm8k-dev-PlanSolve-mode-token.jsonl'
    """
    return Path(folder) / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', run)}.jsonl"


def run_name(
    set_name: str,
    split: str,
    program: str,
    settings: Mapping[str, Any],
    compiled: str | os.PathLike[str] | None = None,
    model: str = MODEL,
) -> str:
    """What a run is called unless the user says otherwise; it names the model if that is another than the commands'.

    >>> run_name("gsm8k", "dev", "PlanSolve", {"mode": "token"})
    'gsm8k-dev-PlanSolve-mode=token'
    >>> run_name("gsm8k", "dev", "PlanSolve", {}, model="models/small.gguf")
    'gsm8k-dev-PlanSolve-small'
    >>> run_name("gsm8k", "dev", "ChainOfThought", {}, compiled="out/gsm8k-ChainOfThought-random/program.json")
    'gsm8k-dev-ChainOfThought-random'
    """
    more = [f"{name}={value}" for name, value in sorted(settings.items())]
    other = [] if model == MODEL else [Path(model.removeprefix(lms.REMOTE)).name.removesuffix(".gguf")]
    saved = [] if compiled is None else [_label(Path(compiled), f"{set_name}-{program}-")]
    return "-".join([set_name, split, program, *more, *saved, *other])


def _label(compiled: Path, known: str) -> str:
    """What tells a saved program from others: its name, or its folder's, for optimisers call every file the same."""
    if compiled.name != PROGRAM:
        return compiled.stem
    return compiled.resolve().parent.name.removeprefix(known)


def _program(
    name: str, task: Task, settings: dict[str, Any], compiled: str | os.PathLike[str] | None
) -> tuple[dspy.Module, dict[str, Any], dict[str, Any]]:
    """The program, its settings, and where it comes from."""
    if compiled is None:
        return programs.make(name, task, **settings), settings, {}
    made, record = programs.load(compiled)
    if settings:
        raise ArgumentError(
            f"{compiled} holds a program with the settings {record['settings']}: leave out {', '.join(sorted(settings))}"
        )
    if (record["program"], record["task"]) != (name, task.name):
        raise ArgumentError(
            f"{compiled} holds {record['program']} for {record['task']}, and {name} for {task.name} is asked for: name that "
            "program, or another file"
        )
    return made, record["settings"], {"compiled": digest(record)}


def _weights(lm: dspy.LM, name: str) -> dict[str, str]:
    """What names the weights behind a language model."""
    if not isinstance(lm, DenseLM):
        asked = name.removeprefix(lms.REMOTE)
        return {"model": asked, "answered_by": SERVER if lm.kwargs.get("api_base") else API}
    if lm.engine.source is None:
        return {"model": name, "model_hash": lm.dense.fingerprint}
    found = resolve(lm.engine.source, offline=True)
    kind = _QUANTISATION.search(found.path.stem)
    return {
        "model": found.path.stem if found.source == "path" else found.name,
        "model_hash": found.sha256 or lm.dense.fingerprint,
        "quantisation": kind.group().upper() if kind else "",
    }
