"""A run: one program over the questions of a set, each answered once, each answer on the disk before the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from densecore.data import Row
from densecore.dspy.meter import Meter, metered
from densecore.programs.task import Task, written
from densecore.report import Example, Journal


@dataclass
class Run:
    """A program, the language model and the adapter it runs with, and the journal of its answers."""

    program: dspy.Module
    task: Task
    lm: dspy.BaseLM
    adapter: dspy.Adapter | None
    journal: Journal
    stopped: bool = field(default=False, compare=False)

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
        """Answer one question and keep the answer, unless the run was stopped meanwhile."""
        example = self.answer(index, row)
        if not self.stopped:
            self.journal.append(example)
            seen(example)


def _counts(meter: Meter, usage: Any) -> dict[str, int]:
    """What the answer cost: counted by the engine, or, of another language model, what it says itself."""
    if meter.calls:
        names = ("emitted_tokens", "latent_steps", "prompt_tokens", "positions", "cached_positions")
        return {name: getattr(meter, name) for name in names}
    totals = usage.get_total_tokens().values()
    read = sum(each.get("prompt_tokens") or 0 for each in totals)
    wrote = sum(each.get("completion_tokens") or 0 for each in totals)
    return {"prompt_tokens": read, "emitted_tokens": wrote, "positions": read + wrote}
