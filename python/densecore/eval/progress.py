"""What a person sees while questions are answered: a bar a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from densecore.eval.run import Run
from densecore.report import Example
from densecore.runs.progress import Bar, wanted


class Progress:
    """Bars with the running score and what the model does a second: tokens written, latent steps taken."""

    def __init__(self, runs: Sequence[Run], total: int, *, show: bool | None = None) -> None:
        self._turn = threading.Lock()
        self._bars: dict[str, _Bar] = {}
        if wanted(show):
            self._bars = {run.name: _Bar(run, total, place) for place, run in enumerate(runs)}

    def __call__(self, run: Run, example: Example) -> None:
        """Another answer has come."""
        if self._bars:
            with self._turn:
                self._bars[run.name].add(example)

    def close(self) -> None:
        """Leave the bars as they are."""
        for bar in self._bars.values():
            bar.bar.close()


class _Bar:
    def __init__(self, run: Run, total: int, place: int) -> None:
        kept = run.journal.examples
        self.bar = Bar(run.name, total, len(kept), unit="q", place=place)
        self.answers, self.score = len(kept), sum(each.score for each in kept)
        self.tokens, self.steps, self.busy, self.last = 0, 0, 0.0, 0.0

    def add(self, example: Example) -> None:
        now = time.monotonic()
        # Time since the last answer, unless it was another program's.
        self.busy += min(now - self.last, example.seconds)
        self.last = now
        self.answers += 1
        self.score += example.score
        self.tokens += example.emitted_tokens
        self.steps += example.latent_steps
        pace = f"{self.tokens / max(self.busy, 1e-9):.0f} tokens/s"
        if self.steps:
            pace += f", {self.steps / max(self.busy, 1e-9):.0f} latent steps/s"
        self.bar.say(f"score {100 * self.score / self.answers:.1f}%, {pace}")
        self.bar.add()
