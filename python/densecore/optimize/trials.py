"""The candidates an optimiser tries: each is written down with its score and its state as soon as it is scored."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from densecore.errors import DataError, StorageError
from densecore.optimize.answers import Stop
from densecore.optimize.lines import Lines
from densecore.programs.saved import state_of
from densecore.programs.task import OWN_FAILURES


@dataclass(frozen=True)
class Trial:
    """A candidate and what it scored."""

    score: float
    """0 to 1: the mean over its rows."""
    rows: int
    whole: bool
    """All rows of the selection; others are the optimiser's own business, and are not chosen from."""
    state: dict[str, Any]


@dataclass
class _Scoring:
    """A program whose rows are being answered."""

    program: dspy.Module
    state: dict[str, Any]
    ids: tuple[str, ...]
    raised: list[BaseException | None] = field(default_factory=list)
    """What each row raised, or None."""

    @property
    def cause(self) -> Exception | None:
        """What the last row raised, where all did, and none by the model's fault."""
        broken = [each for each in self.raised if isinstance(each, Exception) and not isinstance(each, OWN_FAILURES)]
        return broken[-1] if broken and len(broken) == len(self.raised) else None


class Trials(BaseCallback):  # type: ignore[misc]
    """What DSPy evaluates while this is among its callbacks, whichever optimiser does it.

    Args:
        lines: Where trials are kept.
        rows: Ids of the selection.
        evaluations: Program runs at most, in multiples of the selection; what was run before does not count again.
        told: Called with each candidate over the whole selection.
        go_on: Called before what no start has scored yet; it may raise :class:`Stop`.
    """

    def __init__(
        self,
        lines: Lines,
        rows: Sequence[str],
        evaluations: int,
        told: Callable[[Trial], None] = lambda trial: None,
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self.lines, self.rows, self.told, self.go_on = lines, tuple(sorted(rows)), told, go_on
        self.most = evaluations * len(rows)
        self.spent = 0
        self.failed: Exception | None = None
        """What ended the run, where it was the disk, or a program of which every row raised."""
        self.all: list[Trial] = []
        self._seen: set[str] = set()
        self._kept: dict[str, Trial] = {}
        self._open: dict[str, _Scoring] = {}
        self._rows: dict[str, _Scoring] = {}
        for record in lines.records:
            try:
                self._kept[str(record["trial"])] = _trial(record)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{lines.path}: {record!r:.80} is no trial: choose another folder") from error

    @property
    def best(self) -> Trial | None:
        """The highest score over the whole selection, of this start and those before; the first of equals."""
        whole = [trial for trial in (*self._kept.values(), *self.all) if trial.whole]
        return max(whole, key=lambda trial: trial.score, default=None)

    @property
    def whole(self) -> list[Trial]:
        """Those of this start over the whole selection, in their order."""
        return [trial for trial in self.all if trial.whole]

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Note what is scored: the optimiser may change the program while, or before, the score is known."""
        if self.failed:
            raise Stop("failed")
        devset = inputs.get("devset") or instance.devset
        state, ids = state_of(inputs["program"]), tuple(sorted(example.dspy_row.id for example in devset))
        name = _name(state, ids)
        if name not in self._kept:
            self.go_on()
        if name not in self._seen:
            if self.spent + len(ids) > self.most:
                raise Stop("evaluations")
            self.spent += len(ids)
        self._open[call_id] = _Scoring(inputs["program"], state, ids)

    def scored(self, program: dspy.Module) -> bool:
        """Whether this start has the program's score over the whole selection."""
        return _name(state_of(program), self.rows) in self._seen

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Note which calls are rows of what is scored."""
        for scoring in list(self._open.values()):
            if scoring.program is instance:
                self._rows[call_id] = scoring

    def on_module_end(self, call_id: str, outputs: Any | None, exception: BaseException | None = None) -> None:
        """Remember what a row raised: DSPy scores it 0 and goes on."""
        if (scoring := self._rows.pop(call_id, None)) is not None:
            scoring.raised.append(exception)

    def on_evaluate_end(self, call_id: str, outputs: Any | None, exception: Exception | None = None) -> None:
        """Write the trial down, unless every row of it raised: that is no score."""
        scoring = self._open.pop(call_id, None)
        if outputs is None or scoring is None:
            return
        state, ids = scoring.state, scoring.ids
        if ids == self.rows and (cause := scoring.cause) is not None:
            self.failed = cause
            raise Stop("failed")
        name = _name(state, ids)
        if name in self._seen:
            return
        self._seen.add(name)
        scores = [float(score) for *_, score in outputs.results]
        trial = Trial(sum(scores) / len(scores), len(ids), ids == self.rows, state)
        self.all.append(trial)
        if name not in self._kept:
            self._write(name, trial)
        if trial.whole:
            self.told(trial)

    def _write(self, name: str, trial: Trial) -> None:
        record = {"trial": name, **vars(trial), "ended": round(time.time(), 3)}
        try:
            self.lines.append(record)
        except StorageError as error:  # raised here it would become a warning of DSPy's
            self.failed = error


def _trial(record: dict[str, Any]) -> Trial:
    """A line as a trial; a ValueError if it is none."""
    found = Trial(*(record[name] for name in ("score", "rows", "whole", "state")))
    kinds = ((found.score, float), (found.rows, int), (found.whole, bool), (found.state, dict))
    if any(type(value) is not kind for value, kind in kinds) or not 0.0 <= found.score <= 1.0:
        raise ValueError(record)
    return found


def _name(state: dict[str, Any], ids: tuple[str, ...]) -> str:
    """A candidate on rows, by what it is: a run that is started again tries the same ones."""
    return hashlib.sha256(json.dumps([state, ids], sort_keys=True, default=repr).encode()).hexdigest()[:32]


def score(program: dspy.Module, examples: Sequence[dspy.Example], metric: Callable[..., float], threads: int) -> None:
    """Let a program answer the examples, for whoever listens."""
    evaluate = dspy.Evaluate(devset=list(examples), metric=metric, num_threads=threads, display_progress=False)
    evaluate(program)
