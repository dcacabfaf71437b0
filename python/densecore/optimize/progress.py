"""What a person sees of a compile: one line."""

from __future__ import annotations

import threading
import time

from densecore.runs.progress import Bar, wanted

_EVERY = 0.2  # seconds between two redraws


class Progress:
    """Counts program runs and candidates.

    >>> progress = Progress(enabled=False)
    >>> progress.run(); progress.candidate(0.25); progress.candidate(0.2)
    >>> progress.line()
    '1 program runs, 2 candidates, best 25.0%'
    """

    def __init__(self, enabled: bool | None = None) -> None:
        self._turn = threading.Lock()
        self._runs = self._candidates = 0
        self._best = self._drawn = 0.0
        # Made now, over this standard error: what DSPy prints is sent elsewhere meanwhile.
        self._bar = Bar(self.line()) if wanted(enabled) else None

    def run(self) -> None:
        """A program answered a row."""
        with self._turn:
            self._runs += 1
            if time.monotonic() - self._drawn >= _EVERY:
                self._draw()

    def candidate(self, score: float) -> None:
        """A candidate was scored."""
        with self._turn:
            self._candidates += 1
            self._best = max(self._best, score)
            self._draw()

    def line(self) -> str:
        """What the line says."""
        said = f"{self._runs} program runs, {self._candidates} candidates"
        return f"{said}, best {self._best:.1%}" if self._candidates else said

    def close(self) -> None:
        """End the line."""
        with self._turn:
            self._draw()
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self._bar is not None:
            try:
                self._bar.label(self.line())
            except (OSError, ValueError):  # a closed terminal must not end a run
                self._bar = None
