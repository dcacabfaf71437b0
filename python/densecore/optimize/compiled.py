"""One compile: from names to the program that was chosen."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from densecore import arguments, programs
from densecore.errors import ArgumentError
from densecore.optimize import optimisers
from densecore.optimize import rows as choice
from densecore.optimize.feedback import metric_of
from densecore.optimize.progress import Progress
from densecore.optimize.run import Run
from densecore.optimize.trials import score
from densecore.programs import lms, saved
from densecore.programs.task import Task

EVALUATIONS, THREADS = 16, 16
_ERRORS = 10**9  # an answer that cannot be read is a wrong one: no reason for DSPy to give up


@dataclass(frozen=True)
class Best:
    """The best candidate of a compile."""

    program: dspy.Module
    """Asks the language model that was given to :func:`compile`, or else the one in use."""
    score: float
    """On the selection, 0 to 1."""
    start: float
    """The score of the program as it was before."""
    stopped: str | None
    """``"minutes"`` or ``"evaluations"`` where a budget ended the run before the optimiser did."""
    provenance: dict[str, Any] = field(repr=False)
    """Where it comes from: what :meth:`save` writes beside the program."""
    _made: tuple[str, Task, dict[str, Any]] = field(repr=False)
    _context: dict[str, Any] = field(repr=False)

    def __call__(self, **inputs: Any) -> dspy.Prediction:
        """Run it as it was compiled: with the same language model and the same adapter."""
        with dspy.context(**self._context):
            return self.program(**inputs)

    def save(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Write it to a file, for ``densecore.programs.load``; see :func:`densecore.programs.saved.save`."""
        return saved.save(path, self.program, *self._made, self.provenance)


def compile(  # noqa: A001  (the word of DSPy's optimisers)
    program: str,
    set_name: str = "gsm8k",
    *,
    optimiser: str = "random",
    lm: dspy.LM | str | None = None,
    teacher: dspy.LM | str | None = None,
    adapter: dspy.Adapter | str | None = None,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    train: str | None = None,
    train_rows: int | None = None,
    select: str | None = None,
    select_rows: int | None = None,
    seed: int = 0,
    evaluations: int = EVALUATIONS,
    minutes: float | None = None,
    threads: int = THREADS,
    data: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Best:
    """Let an optimiser look for better instructions and demonstrations, and give back the best candidate.

    Best is what scores highest on rows held back for choosing, the program as it was included. With a ``folder``,
    candidates, their scores and every answer of a language model are kept there: the same call again goes on from there,
    asks nothing twice, and comes to what it would have come to at once. Where a program computes without asking, as
    ``PlanSolve`` does, that is computed again. What DSPy prints meanwhile goes to the folder's ``log.txt``, or nowhere;
    so does what other threads of the process print.

    Args:
        program: One of ``programs.names()``.
        set_name: The set that is to be answered, which says the task and, unless told otherwise, the rows.
        optimiser: One of :func:`densecore.optimize.names`.
        lm: What answers: a ``dspy.LM``, or a name as :func:`densecore.programs.lms.language_model` reads it; the one in use
            by default.
        teacher: What demonstrates and writes instructions, given likewise; ``lm`` by default.
        adapter: A ``dspy.Adapter``, or ``"dense"``, ``"chat"``, ``"json"``; the one in use by default, else ``"dense"``.
        settings: Of the program.
        options: Of the optimiser, see :func:`densecore.optimize.optimisers.settled`.
        train: Rows for demonstrations, as ``SET/train``; see ``densecore.optimize.rows.DEFAULTS``.
        train_rows: How many, chosen by the seed; 200 by default.
        select: Rows to choose on, as ``SET/select``.
        select_rows: How many, chosen by the seed; 100 by default.
        seed: Of choices and draws.
        evaluations: Candidates at most: how often the rows of the selection may be answered.
        minutes: When to stop, from now on.
        threads: Rows in work at once.
        data: The folder of the data sets, see :func:`densecore.data.load`.
        folder: Where the run is kept; without one, nothing is.
        progress: Show a line of progress; on a terminal by default.

    Raises:
        ArgumentError: A name or a number that cannot be.
        DataError: The folder is of another run.
        LimitError: The budget was over before the first candidate was scored.
        MissingExtraError: The optimiser needs a package that is not installed.
        DenseCoreError: The optimiser or the language model failed; the best so far is in the folder.
        KeyboardInterrupt: It was interrupted; the best so far is in the folder.
    """
    settled = optimisers.settled(optimiser, options or {})
    for name, value, least in (("evaluations", evaluations, 2), ("threads", threads, 1), ("seed", seed, 0)):
        arguments.whole(name, value, least, 2**31 - 1)
    if minutes is not None and not arguments.number("minutes", minutes) > 0:
        raise ArgumentError(f"minutes = {minutes!r}: it must be more than 0")
    if set_name not in choice.DEFAULTS:
        raise ArgumentError(f"set = {set_name!r:.80}: there are {', '.join(choice.DEFAULTS)}")
    places = train or choice.DEFAULTS[set_name][0], select or choice.DEFAULTS[set_name][1]
    task, made = choice.same_task(set_name, *places), dict(settings or {})
    _check_plain(made)
    student = programs.make(program, task, **made)
    fitting = choice.take(places[0], "train", train_rows, choice.TRAIN_ROWS, data, seed)
    choosing = choice.take(places[1], "select", select_rows, choice.SELECT_ROWS, data, seed)
    answering, teaching = lms.given(lm), None if teacher is None else lms.given(teacher)
    how = lms.adapter(adapter)
    about = {
        "program": program,
        "task": task.name,
        "settings": made,
        "optimiser": optimiser,
        "options": settled,
        "evaluations": evaluations,
        "seed": seed,
        "train": fitting.facts,
        "select": choosing.facts,
        "model": lms.facts(answering),
        "teacher": None if teaching is None else lms.facts(teaching),
        "adapter": type(how).__qualname__,  # a DenseAdapter is called ChatAdapter, for DSPy's sake
        "versions": optimisers.versions(optimiser),
    }
    shown = Progress(progress)
    run = Run(about, task, choosing, None if folder is None else Path(folder), minutes, shown)
    kept = run.answers.keeper(answering)
    job = optimisers.Job(
        program=student,
        train=choice.examples(fitting, task, student),
        select=choice.examples(choosing, task, student),
        metric=metric_of(task, shown.run),
        lm=kept,
        teacher=None if teaching is None else run.answers.keeper(teaching),
        seed=seed,
        threads=threads,
        evaluations=evaluations,
        options=settled,
    )

    def optimise() -> None:
        score(student, job.select, job.metric, threads)
        chosen = optimisers.run(optimiser, job)
        if not run.trials.scored(chosen):
            score(chosen, job.select, job.metric, threads)

    listening = [*dspy.settings.callbacks, run.trials]
    run.work(optimise, dspy.context(lm=kept, adapter=how, callbacks=listening, max_errors=_ERRORS))
    best, provenance = run.program(), run.provenance()
    if lm is not None:
        best.set_lm(answering)
    return Best(
        program=best,
        score=provenance["score"],
        start=provenance["start_score"],
        stopped=run.stopped,
        provenance=provenance,
        _made=(program, task, made),
        _context={"lm": answering, "adapter": how},
    )


def _check_plain(settings: Mapping[str, Any]) -> None:
    try:
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"settings = {settings!r:.80}: {error}, and only plain JSON can be saved") from None
