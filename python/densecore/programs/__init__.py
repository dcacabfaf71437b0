"""Programs of language models: what is asked, and who passes what to whom. Needs the extra ``dspy``.

``task.py`` says what is asked and how answers are judged, ``lms.py`` who answers, ``saved.py`` what a file holds of a
program; every other file holds one: ``direct.py`` those of one step (ZeroShot, ChainOfThought, FewShot),
``plain_chain.py`` PlainChainOfThought, ``prompt_plan_solve.py`` planner and solver that talk in text, ``plan_solve.py``
the same in hidden states, ``multi_hop.py`` search and read and search again, ``react.py`` tools.

>>> from densecore import programs
>>> program = programs.make("PlanSolve", programs.task_of("gsm8k"))
>>> program.reads
('question',)
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, TypeVar

from densecore.errors import ArgumentError, MissingExtraError

try:
    import dspy
except ModuleNotFoundError as error:
    if error.name != "dspy":
        raise
    raise MissingExtraError("densecore.programs needs dspy; install it with: pip install 'densecore[dspy]'") from error

from densecore.programs.direct import ChainOfThought, FewShot, ZeroShot
from densecore.programs.multi_hop import MultiHop
from densecore.programs.plain_chain import PlainChainOfThought
from densecore.programs.plan_solve import PlanSolve
from densecore.programs.prompt_plan_solve import PromptPlanSolve
from densecore.programs.react import ReAct
from densecore.programs.saved import load, save
from densecore.programs.task import MATH, QA, Task, Verdict, task_of

_PROGRAMS: dict[str, type[dspy.Module]] = {
    each.__name__: each
    for each in (
        ZeroShot,
        FewShot,
        ChainOfThought,
        PlainChainOfThought,
        PromptPlanSolve,
        PlanSolve,
        MultiHop,
        ReAct,
    )
}


Program = TypeVar("Program", bound=type[dspy.Module])


def register(program: Program) -> Program:
    """Give a program of your own its name here, so that it can be made, evaluated, compiled, saved and loaded by it.

    It is made as ``program(task, **settings)``. It is called with the fields of a row that its ``reads`` names, those of the
    task's signature by default, and what it gives back must have an ``answer``. Usable as a decorator.

    Raises:
        ArgumentError: It is no class of ``dspy.Module``, or another has the name.

    >>> @register
    ... class Sure(dspy.Module):
    ...     def __init__(self, task):
    ...         super().__init__()
    ...         self.answer = dspy.Predict(task.signature)
    ...
    ...     def forward(self, **inputs):
    ...         return self.answer(**inputs)
    >>> make("Sure", MATH).reads
    ('question',)
    """
    if not (isinstance(program, type) and issubclass(program, dspy.Module)):
        raise ArgumentError(f"program = {program!r:.80}: give a class of dspy.Module")
    name, taken = program.__name__, _PROGRAMS.get(program.__name__)
    if taken is not None and (taken.__module__, taken.__qualname__) != (program.__module__, program.__qualname__):
        raise ArgumentError(f"program = {name}: {taken.__module__} has one of that name; give the class another")
    _PROGRAMS[name] = program
    return program


def bring(module: str) -> None:
    """Import a module of the user's that registers programs.

    Raises:
        ArgumentError: There is no such module, or it fails.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")  # as python -m has it
    try:
        importlib.import_module(module)
    except Exception as error:
        raise ArgumentError(
            f"import {module}: {type(error).__name__}: {error}; it must be importable from here"
        ) from error


def names() -> tuple[str, ...]:
    """The programs.

    >>> "ChainOfThought" in names()
    True
    """
    return tuple(_PROGRAMS)


def make(name: str, task: Task, /, **settings: Any) -> dspy.Module:
    """A program for a task. Its settings are those of its class.

    Raises:
        ArgumentError: No such program, or a setting it does not have.
    """
    if name not in _PROGRAMS:
        raise ArgumentError(f"program = {name!r:.80}: there are {', '.join(_PROGRAMS)}")
    try:
        made = _PROGRAMS[name](task, **settings)
    except TypeError as error:
        raise ArgumentError(f"settings = {sorted(settings)}: {error}") from error
    if not hasattr(made, "reads"):
        made.reads = tuple(task.signature.input_fields)
    return made


__all__ = [
    "MATH",
    "QA",
    "ChainOfThought",
    "FewShot",
    "MultiHop",
    "PlainChainOfThought",
    "PlanSolve",
    "PromptPlanSolve",
    "ReAct",
    "Task",
    "Verdict",
    "ZeroShot",
    "bring",
    "load",
    "make",
    "names",
    "register",
    "save",
    "task_of",
]
