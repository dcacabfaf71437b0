"""Programs as files: one JSON document that holds what an optimiser chose, where it comes from, and no code.

What is saved is a program's name, task and settings, and of each of its predictors the instructions and demonstrations. No
language model is in it: a program that was loaded asks whatever ``dspy.context(lm=...)`` says.

>>> import tempfile
>>> from densecore import programs
>>> program = programs.make("ChainOfThought", programs.MATH)
>>> with tempfile.TemporaryDirectory() as folder:
...     _ = save(f"{folder}/cot.json", program, "ChainOfThought", programs.MATH)
...     again, record = load(f"{folder}/cot.json")
>>> record["program"], again.reads
('ChainOfThought', ('question',))
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy

from densecore import programs, regular
from densecore.errors import ArgumentError, DataError, StorageError
from densecore.programs.task import MATH, QA, Task
from densecore.runs.replace import write_text

FORMAT = 1
MAX_BYTES = 16 * 2**20
"""Of a file: hundreds of demonstrations with their passages. A larger one is no program."""
_TASKS = {task.name: task for task in (MATH, QA)}
_KINDS = {"densecore_program": int, "program": str, "task": str, "settings": dict, "state": dict, "provenance": dict}
_EMPTY = ("traces", "train", "lm")
_MARK = "augmented"  # DSPy's own, of a demonstration that a program made


def state_of(program: dspy.Module) -> dict[str, Any]:
    """What tells a program from others of its class: instructions and demonstrations of each predictor.

    Demonstrations keep the fields of their predictor's signature, which are all that a prompt shows; rows of a data set have
    more. A language model bound to a predictor is left out.
    """
    state: dict[str, Any] = {}
    for name, predictor in program.named_predictors():
        shown = (*predictor.signature.fields, _MARK)
        bare = copy.copy(predictor)  # without what cannot always be written: a language model, the rest of a row
        bare.traces, bare.train, bare.lm = [], [], None
        bare.demos = [
            dspy.Example({key: value for key, value in demo.items() if key in shown}) for demo in predictor.demos
        ]
        state[name] = bare.dump_state()
    return state


def digest(record: Mapping[str, Any]) -> str:
    """What tells saved programs apart: a hash of program, task, settings and state; where they come from does not count."""
    facts = {name: record[name] for name in ("program", "task", "settings", "state")}
    return hashlib.sha256(_written(facts, None).encode("utf-8", "surrogatepass")).hexdigest()


def save(
    path: str | os.PathLike[str],
    program: dspy.Module,
    name: str,
    task: Task,
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a program, whole or not at all; gives back what was written.

    Args:
        path: The file.
        program: Made by ``programs.make(name, task, **settings)``, then changed by an optimiser or by hand.
        name: Its name among ``programs.names()``.
        task: What it was made for.
        settings: What it was made with, of plain JSON values.
        provenance: Where it comes from: optimiser, seed, rows, scores.

    Raises:
        ArgumentError: No such program, or the program is not what the name and the settings make.
        DataError: It holds what JSON cannot.
        StorageError: The file cannot be written.
    """
    place, settings = Path(path), dict(settings or {})
    record = {
        "densecore_program": FORMAT,
        "program": name,
        "task": task.name,
        "settings": settings,
        "state": state_of(program),
        "provenance": dict(provenance or {}),
    }
    text = json.loads(_written(record, place))
    try:
        restored(place, programs.make(name, task, **settings), text["state"])
    except DataError as error:
        raise ArgumentError(f"program = {program!r:.80}: this is no {name} of these settings ({error})") from error
    write_text(place, json.dumps(text, indent=1, ensure_ascii=False) + "\n")
    return dict(text)


def load(path: str | os.PathLike[str]) -> tuple[dspy.Module, dict[str, Any]]:
    """A program that was saved, and all that its file says. Nothing of the file is run.

    Raises:
        DataError: The file is no saved program, or one that this densecore cannot make; the message says what is wrong.
        StorageError: The file cannot be read.
    """
    place = Path(path)
    record = _record(place)
    if record["task"] not in _TASKS:
        raise DataError(f"{place}: task = {record['task']!r:.80}: there are {', '.join(_TASKS)}")
    try:
        program = programs.make(record["program"], _TASKS[record["task"]], **record["settings"])
    except ArgumentError as error:
        raise DataError(f"{place}: {error}") from error
    return restored(place, program, record["state"]), record


def _written(value: Any, place: Path | None) -> str:
    try:
        return json.dumps(value, sort_keys=place is None, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{place or 'the program'}: {error}; a saved program holds plain JSON alone") from error


def _record(place: Path) -> dict[str, Any]:
    try:
        data = regular.read(place, MAX_BYTES)
    except OSError as error:
        raise StorageError(f"cannot read the program {place}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{place}: more than {MAX_BYTES} bytes, and no program is that large")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: no JSON ({error!s:.120}): give a file that densecore.programs.save wrote") from None
    if not isinstance(record, dict) or "densecore_program" not in record:
        raise DataError(f"{place}: this is no saved program of densecore; programs.save writes one")
    if record["densecore_program"] != FORMAT:
        raise DataError(
            f"{place}: format {record['densecore_program']!r:.40}, and this densecore reads {FORMAT}: use the one that wrote it"
        )
    for name, kind in _KINDS.items():
        if not isinstance(record.get(name), kind):
            raise DataError(f"{place}: {name} = {record.get(name)!r:.80}: this should be a {kind.__name__}")
    strange = sorted(set(record) - set(_KINDS))
    if strange:
        raise DataError(f"{place}: the field {strange[0]!r:.80} is not known: a newer densecore may have written it")
    return record


def restored(place: Path | str, program: dspy.Module, state: dict[str, Any]) -> dspy.Module:
    """The program with the state, once that is known to fit: DSPy would set whatever attributes a file names.

    Raises:
        DataError: It does not fit; the message says what, and that it is from ``place``.
    """
    predictors = dict(program.named_predictors())
    if set(state) != set(predictors):
        raise DataError(
            f"{place}: the state is of the predictors {', '.join(sorted(state)) or 'none'!s:.200}, and the program has "
            f"{', '.join(sorted(predictors))}"
        )
    for name, predictor in predictors.items():
        _check(f"{place}: predictor {name}", predictor.signature, state[name])
    program.load_state(state)
    return program


def _check(where: str, signature: Any, state: Any) -> None:
    known = ("signature", "demos", *_EMPTY)
    if not isinstance(state, dict) or not {"signature", "demos", "lm"} <= set(state) <= set(known):
        raise DataError(f"{where}: its state must hold {', '.join(known)} and nothing else")
    for name in _EMPTY:
        if state.get(name):
            raise DataError(f"{where}: {name} = {state[name]!r:.80}: this must be empty in a saved program")
    said = state["signature"]
    if not isinstance(said, dict) or not isinstance(said.get("instructions"), str):
        raise DataError(f"{where}: its signature has no instructions")
    fields = said.get("fields")
    if not isinstance(fields, list) or len(fields) != len(signature.fields):
        raise DataError(
            f"{where}: its signature must list {len(signature.fields)} fields: {', '.join(signature.fields)}"
        )
    for field in fields:
        if not isinstance(field, dict) or not all(isinstance(field.get(key), str) for key in ("prefix", "description")):
            raise DataError(f"{where}: the field {field!r:.80} of its signature must have a prefix and a description")
    if not isinstance(state["demos"], list):
        raise DataError(f"{where}: demos = {state['demos']!r:.80}: this must be a list")
    for demo in state["demos"]:
        if not isinstance(demo, dict) or not set(demo) <= {*signature.fields, _MARK}:
            raise DataError(f"{where}: the demonstration {demo!r:.80} must hold {', '.join(signature.fields)} alone")
