"""A run: one program over the questions of a set, each answered once, each answer on the disk before the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import dspy

from densecore.data import Row
from densecore.errors import DataError, DenseCoreError
from densecore.programs.task import OWN_FAILURES, Task, written
from densecore.report import Example, Journal
from densecore.runs.meter import Meter, metered

HOPELESS = 16
"""Answers in a row of which each raised, and the run is given up: a server that is not there is no wrong answer."""
_OWN = tuple(each.__name__ for each in OWN_FAILURES)  # as journals have them


@dataclass
class Run:
    """A program, the language model and the adapter it runs with, and the journal of its answers."""

    program: dspy.Module
    task: Task
    lm: dspy.BaseLM
    adapter: dspy.Adapter | None
    journal: Journal
    stopped: bool = field(default=False, compare=False)
    """Nothing is kept any more."""
    _raised: list[Example] = field(default_factory=list, init=False, repr=False, compare=False)
    """Answers that raised: they are kept when a question that was asked later is answered."""
    _ended: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    """When each of them had raised."""
    _good: tuple[int, Row] | None = field(default=None, init=False, repr=False, compare=False)
    """A question that was answered."""
    _busy: int = field(default=0, init=False, repr=False, compare=False)
    """Questions in work."""
    _turn: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.journal.header.run

    def missing(self, rows: Sequence[Row]) -> list[tuple[int, Row]]:
        """Rows that have no answer yet, with their places in the set.

        Raises:
            DataError: A row that has one is another than it was.
        """
        done = {each.id: each for each in self.journal.examples}
        for row in rows:
            if row.id in done and (row.question, row.answer) != (done[row.id].question, done[row.id].gold):
                raise DataError(
                    f"{self.journal.path}: {row.id} was another question ({done[row.id].question!r:.60}, now "
                    f"{row.question!r:.60}): give the data it was begun with, or begin anew"
                )
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
            DenseCoreError: The last answers all raised, which are many, and none is in work that may yet be another.
        """
        with self._turn:
            while len(self._raised) >= HOPELESS and self._busy:
                self._turn.wait()
            if len(self._raised) >= HOPELESS:
                if self._good is None or _broken(self.answer(*self._good)):
                    self._give_up()
                self._keep(self._raised, seen)
            self._busy += 1
        example, began = None, time.monotonic()
        try:
            example = self.answer(index, row)
        finally:
            with self._turn:
                self._busy -= 1
                self._turn.notify_all()
                if example is not None and _broken(example):
                    self._raised.append(example)
                    self._ended[example.id] = time.monotonic()
                elif example is not None:
                    # One that was asked before may have been answered before the language model died.
                    self._good = index, row
                    self._keep([*(each for each in self._raised if self._ended[each.id] <= began), example], seen)

    def settle(self, rows: Sequence[Row], seen: Callable[[Example], None] = lambda example: None) -> None:
        """Keep the last answers though they raised, if a question that was answered before still is.

        Raises:
            DenseCoreError: It is not, or none was. What raised is not kept.
        """
        with self._turn:
            if not self._raised or self.stopped:
                return
            known = {row.id: row for row in rows}
            good = next((each for each in self.journal.examples if not _broken(each) and each.id in known), None)
            if good is None or _broken(self.answer(good.index, known[good.id])):
                self._give_up()
            self._keep(self._raised, seen)

    def _keep(self, ready: Sequence[Example], seen: Callable[[Example], None]) -> None:
        self._raised = [each for each in self._raised if each not in ready]
        for each in ready:
            if not self.stopped:
                self.journal.append(each)
                seen(each)

    def _give_up(self) -> NoReturn:
        self.stopped = True
        raise DenseCoreError(
            f"{self.name}: its last {len(self._raised)} answers all raised, so it was given up and they were not kept; "
            f"mend what is wrong, and the same command goes on. The last: {self._raised[-1].error!s:.1000}"
        )


def _broken(example: Example) -> bool:
    """Whether the answer raised, by no fault of the model's."""
    return example.error is not None and not example.error.startswith(_OWN)


def _counts(meter: Meter, usage: Any) -> dict[str, int]:
    """What the answer cost: counted by the engine, or, of another language model, what it says itself."""
    if meter.calls:
        names = ("emitted_tokens", "latent_steps", "prompt_tokens", "positions", "cached_positions")
        return {name: getattr(meter, name) for name in names}
    totals = usage.get_total_tokens().values()
    read = sum(each.get("prompt_tokens") or 0 for each in totals)
    wrote = sum(each.get("completion_tokens") or 0 for each in totals)
    return {"prompt_tokens": read, "emitted_tokens": wrote, "positions": read + wrote}
