"""The folder of a compile: what is in it, and how it comes to a best program whatever ends the run."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dspy

from densecore import programs
from densecore.errors import DenseCoreError, LimitError
from densecore.optimize.answers import Answers, Stop
from densecore.optimize.lines import Lines
from densecore.optimize.progress import Progress
from densecore.optimize.rows import Rows
from densecore.optimize.trials import Trial, Trials
from densecore.programs import saved
from densecore.programs.task import Task

PROGRAM, ANSWERS, TRIALS, LOG = "program.json", "answers.jsonl", "trials.jsonl", "log.txt"
"""The files of a folder. The program is there from the first candidate on, the best so far."""


class Run:
    """A compile at work.

    Args:
        about: All that its answers and candidates depend on, plain JSON: a folder belongs to one such.
        task: Of the program.
        select: What candidates are chosen on.
        folder: Where it is kept, or nowhere.
        minutes: Until it stops.
        progress: What a person sees.
    """

    def __init__(
        self,
        about: dict[str, Any],
        task: Task,
        select: Rows,
        folder: Path | None,
        minutes: float | None,
        progress: Progress,
    ) -> None:
        self.about, self.task, self.folder, self.progress = about, task, folder, progress
        self.stopped: str | None = "unfinished"
        """Why the optimiser did not come to its end; None where it did."""
        self._began = time.monotonic()
        deadline = None if minutes is None else self._began + 60 * minutes
        facts = {
            "command": shlex.join(["python", *sys.orig_argv[1:]]),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        with contextlib.ExitStack() as opened:
            answers = Lines(self._place(ANSWERS), "answers", about, facts)
            opened.callback(answers.close)
            trials = Lines(self._place(TRIALS), "trials", about, facts)
            opened.callback(trials.close)
            self.answers = Answers(answers, about["seed"], deadline)
            self.trials = Trials(
                trials, [row.id for row in select.rows], about["evaluations"], self._told, self.answers.go_on
            )
            self._seconds = self._before = self._earlier()
            self._close = opened.pop_all()

    def _earlier(self) -> float:
        """Seconds that other starts of this run have worked."""
        place = self._place(PROGRAM)
        if place is None or not place.exists():
            return 0.0
        told = saved.load(place)[1]["provenance"]
        same = told.get("started") == self.answers.lines.head["started"]
        return float(told["seconds"]) if same and isinstance(told.get("seconds"), (int, float)) else 0.0

    def _place(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def work(self, optimise: Callable[[], None], context: AbstractContextManager[Any]) -> None:
        """Let the optimiser work until it ends, fails, is interrupted or is over its budget.

        Raises:
            LimitError: The budget was over before any candidate was scored.
            DenseCoreError: The optimiser failed, or a language model, or the disk.
            KeyboardInterrupt: Ctrl-C.
        """
        failure: BaseException | None = None
        with self._close:
            try:
                with self._quiet(), context:
                    optimise()
                self.stopped = None
            except Stop as stop:
                self.stopped = stop.reason
                failure = self.trials.failed or self.answers.cause if stop.reason == "failed" else None
            except KeyboardInterrupt as error:
                self.stopped, failure = "interrupted", error
            except Exception as error:  # noqa: BLE001  (whatever DSPy raises, the best so far is saved before it is told)
                self.stopped, failure = "failed", error
            self.progress.close()
            self._write()
        self._tell(failure)

    def _tell(self, failure: BaseException | None) -> None:
        if isinstance(failure, (KeyboardInterrupt, DenseCoreError)):
            raise failure
        kept = "" if self.folder is None else f"; what was done is kept in {self.folder}"
        if failure is not None:
            told = f"{type(failure).__name__}: {failure!s:.1000}"
            raise DenseCoreError(f"{self.about['optimiser']} ended in an error{kept} ({told})") from failure
        if self.trials.best is None:
            raise LimitError(f"{self.stopped}: over before the first candidate was scored{kept}: give it more")

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """DSPy prints, logs and draws bars to both outputs; a command's are for what was asked."""
        with contextlib.ExitStack() as opened:
            place = self._place(LOG)
            log = opened.enter_context(Path(os.devnull if place is None else place).open("a", encoding="utf-8"))
            opened.enter_context(contextlib.redirect_stdout(log))
            opened.enter_context(contextlib.redirect_stderr(log))
            yield

    def _told(self, trial: Trial) -> None:
        self.progress.candidate(trial.score)
        if trial == self.trials.best:
            self._write()

    def _write(self) -> None:
        place = self._place(PROGRAM)
        if place is not None and self.trials.best is not None:
            facts, self._seconds = self.about, round(self._before + time.monotonic() - self._began, 1)
            saved.save(place, self.program(), facts["program"], self.task, facts["settings"], self.provenance())

    def program(self) -> dspy.Module:
        """The best program so far."""
        best = self.trials.best
        if best is None:
            raise LimitError("no candidate is scored yet")
        made = programs.make(self.about["program"], self.task, **self.about["settings"])
        return saved.restored(self._place(TRIALS) or "the run", made, best.state)

    def provenance(self) -> dict[str, Any]:
        """Where the best program comes from: enough to repeat the run."""
        best, whole = self.trials.best, self.trials.whole
        named = ("program", "task", "settings")
        return {
            **{name: value for name, value in self.about.items() if name not in named},
            "stopped": self.stopped,
            "score": None if best is None else best.score,
            "start_score": whole[0].score if whole else None,
            "candidates": [trial.score for trial in whole],
            "language_models": self.answers.usage,
            "seconds": self._seconds,
            "command": self.answers.lines.head["command"],
            "started": self.answers.lines.head["started"],
        }
