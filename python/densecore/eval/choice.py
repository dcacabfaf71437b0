"""From what a user names to what runs: language models, adapters, programs, and the head of a journal."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy

from densecore import programs
from densecore.dspy import DenseLM
from densecore.errors import ArgumentError
from densecore.models import resolve
from densecore.options import MODEL
from densecore.programs.saved import digest
from densecore.programs.task import Task, task_of
from densecore.report import Header, Journal

from .run import Run

MAX_TOKENS = 512
"""Of an answer of DSPy's own programs."""
ADAPTERS = ("dense", "chat", "json")
_QUANTISATION = re.compile(r"(?:IQ|Q)\d+_\w+|BF16|F16|F32", re.IGNORECASE)


def language_model(
    name: str,
    *,
    api: bool = False,
    api_base: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = MAX_TOKENS,
    seed: int | None = None,
    cache: bool = False,
    **load: Any,
) -> dspy.LM:
    """A model computed here, by catalogue name, hub id or path; with ``api``, one that DSPy reaches by that name.

    ``api_base`` is the address of a server that speaks such an API, vLLM's say.
    """
    drawn = {} if seed is None or not temperature else {"seed": seed}
    if api:
        there = {} if api_base is None else {"api_base": api_base}
        return dspy.LM(name, temperature=temperature, max_tokens=max_tokens, cache=cache, **there, **drawn)
    return DenseLM(name, temperature=temperature, max_tokens=max_tokens, cache=cache, load=load or None, **drawn)


def adapter(name: str) -> dspy.Adapter:
    """How programs of DSPy's own ask: ``dense`` holds answers to their form; plain programs bring their own way.

    >>> type(adapter("json")).__name__
    'JSONAdapter'
    """
    if name not in ADAPTERS:
        raise ArgumentError(f"adapter = {name!r:.80}: there are {', '.join(ADAPTERS)}")
    if name == "dense":
        from densecore.dspy import DenseAdapter

        return DenseAdapter()
    return dspy.ChatAdapter() if name == "chat" else dspy.JSONAdapter()


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
        lm: From :func:`language_model`.
        folder: Where journals lie.
        model: The name the model was asked for by.
        name: Of the run; made of the rest by default.
        adapter_name: One of ``ADAPTERS``.
        compiled: A program that ``densecore.optimize`` saved, instead of a new one.
        settings: Of the program.
        seed: Of the problems, and of drawn answers.
        resume: Go on with a journal that is there; otherwise it is an error.
        fresh: Forget what is in it.
    """
    task = task_of(set_name)
    chosen = dict(settings or {})
    made, origin = _program(program, task, chosen, compiled)
    told = {"temperature": lm.kwargs.get("temperature"), "max_tokens": lm.kwargs.get("max_tokens")}
    header = Header.begin(
        run=name or run_name(set_name, split, program, chosen, compiled, model),
        set=set_name,
        split=split,
        program=program,
        seed=seed,
        metric=task.metric_name,
        settings={"adapter": getattr(made, "adapter", adapter_name), **told, **chosen, **origin},
        **_weights(lm, model),
    )
    held = place(folder, header.run)
    return Run(made, task, lm, adapter(adapter_name), Journal.open(held, header, resume=resume, fresh=fresh))


def check(
    program: str,
    set_name: str,
    *,
    adapter_name: str = "dense",
    compiled: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    api: bool = False,
) -> None:
    """Raise what :func:`begin` would of these, before a model is loaded or a journal is touched."""
    adapter(adapter_name)
    made, _ = _program(program, task_of(set_name), dict(settings or {}), compiled)
    if api and getattr(made, "needs_states", False):
        raise ArgumentError(f"{program} needs hidden states, which no API gives: name a model computed here")


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
    """
    more = [f"{name}={value}" for name, value in sorted(settings.items())]
    other = [] if model == MODEL else [Path(model).name.removesuffix(".gguf")]
    return "-".join([set_name, split, program, *more, *([Path(compiled).stem] if compiled else []), *other])


def _program(
    name: str, task: Task, settings: dict[str, Any], compiled: str | os.PathLike[str] | None
) -> tuple[dspy.Module, dict[str, Any]]:
    if compiled is None:
        return programs.make(name, task, **settings), {}
    made, record = programs.load(compiled)
    if (record["program"], record["task"]) != (name, task.name):
        raise ArgumentError(
            f"{compiled} holds {record['program']} for {record['task']}, and {name} for {task.name} is asked for: name that "
            "program, or another file"
        )
    return made, {"compiled": digest(record)}


def _weights(lm: dspy.LM, name: str) -> dict[str, str]:
    """What names the weights behind a language model."""
    if not isinstance(lm, DenseLM):
        return {"model": name}
    if lm.engine.source is None:
        return {"model": name, "model_hash": lm.dense.fingerprint}
    found = resolve(lm.engine.source, offline=True)
    kind = _QUANTISATION.search(found.path.stem)
    return {
        "model": found.path.stem if found.source == "path" else found.name,
        "model_hash": found.sha256 or lm.dense.fingerprint,
        "quantisation": kind.group().upper() if kind else "",
    }
