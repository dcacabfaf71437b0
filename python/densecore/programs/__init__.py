"""Programs of language models: what is asked, and who passes what to whom. Needs the extra ``dspy``.

``task.py`` says what is asked and how answers are judged; every other file holds a program: ``direct.py`` those of one
step (ZeroShot, ChainOfThought, FewShot), ``plain_chain.py`` PlainChainOfThought, ``prompt_plan_solve.py`` planner and solver
that talk in text, ``plan_solve.py`` the same in hidden states, ``multi_hop.py`` search and read and search again,
``react.py`` tools.

>>> from densecore import programs
>>> program = programs.make("PlanSolve", programs.task_of("gsm8k"))
>>> program.reads
('question',)
"""

from __future__ import annotations

from typing import Any

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
        return _PROGRAMS[name](task, **settings)
    except TypeError as error:
        raise ArgumentError(f"settings = {sorted(settings)}: {error}") from error


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
    "load",
    "make",
    "names",
    "save",
    "task_of",
]
