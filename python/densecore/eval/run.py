"""A run: one program over the questions of a set, each answered once, each answer on the disk before the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from densecore.data import Row
from densecore.dspy.meter import Meter, metered
from densecore.errors import DenseCoreError
from densecore.programs.task import Task, written
from densecore.report import Example, Journal

HOPELESS = 16
"""Answers of which each raised, and the run is given up: a wrong key or a server that is not there is no result."""
_UNREADABLE = "AdapterParseError"  # the model's own failure, which counts


@dataclass
class Run:
    """A program, the language model and the adapter it runs with, and the journal of its answers."""

    program: dspy.Module
    task: Task
    lm: dspy.BaseLM
    adapter: dspy.Adapter | None
    journal: Journal
    stopped: bool = field(default=False, compare=False)
    _raised: list[Example] | None = field(default_factory=list, init=False, repr=False, compare=False)
    """Answers that raised before any did not; none are kept once one did not."""
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if any(each.error is None for each in self.journal.examples):
            self._raised = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.journal.header.run

    def missing(self, rows: Sequence[Row]) -> list[tuple[int, Row]]:
        """Rows that have no answer yet, with their places in the set."""
        done = self.journal.done_ids
        return [(index, row) for index, row in enumerate(rows) if row.id not in done]

    def answer(self, index: int, row: Row) -> Example:
        """Answer one question. An exception of the program is an answer too: a wrong one."""
        example = self.task.example(row, self.program.reads)
        prediction, raised = None, None
        with (
            dspy.context(lm=self.lm, adapter=self.adapter, trace=[], disable_history=True),
            dspy.track_usage() as usage,
            metered() as meter,
        ):
            started = time.perf_counter()
            try:
                prediction = self.program(**example.inputs())
            except Exception as error:  # noqa: BLE001 - whatever a program raises, the others go on
                raised = f"{type(error).__name__}: {error}"
            seconds = time.perf_counter() - started
        text = "" if prediction is None else written(prediction)
        verdict = self.task.judge(row, getattr(prediction, "answer", None), text)
        return Example(
            index=index,
            id=row.id,
            question=row.question,
            gold=row.answer,
            prediction=verdict.prediction,
            text=text,
            correct=verdict.correct,
            score=verdict.score,
            failure=verdict.failure,
            scores=verdict.scores,
            seconds=seconds,
            error=raised,
            **_counts(meter, usage),
        )

    def work(self, index: int, row: Row, seen: Callable[[Example], None]) -> None:
        """Answer one question and keep the answer, unless the run was stopped meanwhile.

        Raises:
            DenseCoreError: The answers all raised so far, and they are many. None of them is kept.
        """
        example = self.answer(index, row)
        with self._turn:
            ready = self._ready(example)
        for each in ready:
            if not self.stopped:
                self.journal.append(each)
                seen(each)

    def _ready(self, example: Example) -> list[Example]:
        """What may be kept now that this answer is there."""
        if self._raised is None:
            return [example]
        self._raised.append(example)
        if example.error is None or example.error.startswith(_UNREADABLE):
            ready, self._raised = self._raised, None
            return ready
        if len(self._raised) >= HOPELESS:
            self.settle()
        return []

    def settle(self) -> None:
        """Give up if the answers all raised so far, however few they are.

        Raises:
            DenseCoreError: They did.
        """
        if self._raised:
            raise DenseCoreError(
                f"{self.name}: all of its {len(self._raised)} answers raised, so it was given up and none was kept; "
                f"the last: {self._raised[-1].error!s:.1000}"
            )


def _counts(meter: Meter, usage: Any) -> dict[str, int]:
    """What the answer cost: counted by the engine, or, of another language model, what it says itself."""
    if meter.calls:
        names = ("emitted_tokens", "latent_steps", "prompt_tokens", "positions", "cached_positions")
        return {name: getattr(meter, name) for name in names}
    totals = usage.get_total_tokens().values()
    read = sum(each.get("prompt_tokens") or 0 for each in totals)
    wrote = sum(each.get("completion_tokens") or 0 for each in totals)
    return {"prompt_tokens": read, "emitted_tokens": wrote, "positions": read + wrote}
