"""What a person sees while questions are answered: a bar a run, on a terminal only."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from densecore.eval.run import Run
from densecore.report import Example


class Progress:
    """Bars with the running score and what the model does a second: tokens written, latent steps taken."""

    def __init__(self, runs: Sequence[Run], total: int, *, show: bool | None = None) -> None:
        self._turn = threading.Lock()
        self._bars: dict[str, _Bar] = {}
        if sys.stderr.isatty() if show is None else show:
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
        from tqdm import tqdm

        kept = run.journal.examples
        self.bar: Any = tqdm(total=total, initial=len(kept), desc=run.name, position=place, unit="q")
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
        self.bar.set_postfix_str(f"score {100 * self.score / self.answers:.1f}%, {pace}", refresh=False)
        self.bar.update()
