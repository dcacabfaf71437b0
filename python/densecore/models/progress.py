"""A progress bar on standard error: shown on a terminal, or when asked for, and silent otherwise."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import TextIO

from .disk import human

_EVERY = 0.1  # seconds between two redraws
_WINDOW = 5.0  # seconds over which the rate is taken
_WIDTH = 24  # characters of bar


class Bar:
    """Counts bytes and draws one line with share, rate and time left.

    >>> bar = Bar("model", 100, enabled=False)
    >>> bar.add(40); bar.add(10); bar.done
    50
    """

    def __init__(self, label: str, total: int | None, *, enabled: bool, stream: TextIO | None = None) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._stream = stream or sys.stderr
        self._enabled = enabled
        self._marks: deque[tuple[float, int]] = deque()
        self._drawn = 0.0
        self._width = 0

    def add(self, count: int) -> None:
        """``count`` more bytes arrived."""
        self.set(self.done + count)

    def set(self, done: int) -> None:
        """``done`` bytes are there in all."""
        self.done = done
        if not self._enabled:
            return
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
            self._marks.popleft()
        if now - self._drawn >= _EVERY:
            self._drawn = now
            self._draw()

    def line(self) -> str:
        """The text of the bar as it stands."""
        rate = 0.0
        if len(self._marks) > 1:
            (begin, low), (end, high) = self._marks[0], self._marks[-1]
            rate = max(0.0, (high - low) / (end - begin)) if end > begin else 0.0
        speed = f"{human(rate)}/s" if rate else "--"
        if not self.total:
            return f"{self.label}  {human(self.done)}  {speed}"
        share = min(1.0, self.done / self.total)
        filled = int(share * _WIDTH)
        left = _clock((self.total - self.done) / rate) if rate and self.done <= self.total else "--:--"
        return (
            f"{self.label}  [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}  "
            f"{human(self.done)} of {human(self.total)}  {speed}  {left} left"
        )

    def _draw(self) -> None:
        text = self.line()
        pad = " " * max(0, self._width - len(text))
        self._width = len(text)
        try:
            self._stream.write(f"\r{text}{pad}")
            self._stream.flush()
        except (OSError, ValueError, UnicodeError):
            self._enabled = False  # a closed terminal must not break a download

    def close(self) -> None:
        """Draw the last state and end the line."""
        if self._enabled:
            self._draw()
            try:
                self._stream.write("\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass
            self._enabled = False

    def __enter__(self) -> Bar:
        """Use as a context manager: the line ends with the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the line."""
        self.close()


def _clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    whole = int(min(seconds, 359_999)) + 1
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
