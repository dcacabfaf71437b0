"""What a person sees of a compile: one line, on a terminal and nowhere else."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from densecore.models.progress import wanted

_EVERY = 0.2  # seconds between two redraws


class Progress:
    """Counts program runs and candidates.

    >>> progress = Progress(enabled=False)
    >>> progress.run(); progress.candidate(0.25); progress.candidate(0.2)
    >>> progress.line()
    '1 program runs, 2 candidates, best 25.0%'
    """

    def __init__(self, enabled: bool | None = None, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr  # held now: what DSPy prints is sent elsewhere meanwhile
        self._enabled = wanted(enabled, self._stream)
        self._runs = self._candidates = self._width = 0
        self._best = 0.0
        self._drawn = 0.0

    def run(self) -> None:
        """A program answered a row."""
        self._runs += 1
        if self._enabled and time.monotonic() - self._drawn >= _EVERY:
            self._draw()

    def candidate(self, score: float) -> None:
        """A candidate was scored."""
        self._candidates += 1
        self._best = max(self._best, score)
        if self._enabled:
            self._draw()

    def line(self) -> str:
        """What the line says."""
        said = f"{self._runs} program runs, {self._candidates} candidates"
        return f"{said}, best {self._best:.1%}" if self._candidates else said

    def close(self) -> None:
        """End the line."""
        if self._enabled:
            self._draw("\n")
            self._enabled = False

    def _draw(self, end: str = "") -> None:
        self._drawn = time.monotonic()
        text = self.line()
        self._width = max(self._width, len(text))
        try:
            self._stream.write(f"\r{text:<{self._width}}{end}")
            self._stream.flush()
        except (OSError, ValueError):  # a closed terminal must not end a run
            self._enabled = False
