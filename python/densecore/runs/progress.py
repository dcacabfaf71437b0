"""What a person sees of long work: bars where somebody looks, on a terminal or in a notebook, and nothing elsewhere."""

from __future__ import annotations

import sys
from typing import Any, TextIO


def in_notebook() -> bool:
    """Whether this process computes for a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def wanted(show: bool | None, stream: TextIO | None = None) -> bool:
    """Whether to draw: as asked, else where somebody looks."""
    if show is not None:
        return show
    stream = stream or sys.stderr
    return bool(stream is not None and hasattr(stream, "isatty") and stream.isatty()) or in_notebook()


class Bar:
    """A count and what is said beside it.

    Args:
        label: What is counted for whom.
        total: How many there will be; without, only what is said is shown.
        done: How many there are already.
        unit: The name of one.
        place: The line, among several bars.
        stream: Where it is drawn, outside notebooks; standard error as it is now.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        done: int = 0,
        *,
        unit: str = "it",
        place: int = 0,
        stream: TextIO | None = None,
    ) -> None:
        from tqdm.auto import tqdm

        shape = {} if total is not None else {"bar_format": "{desc}"}
        self.drawn: Any = tqdm(
            total=total, initial=done, desc=label, unit=unit, position=place, file=stream or sys.stderr, **shape
        )

    def label(self, text: str) -> None:
        """Say something else before the count."""
        self.drawn.set_description_str(text)

    def say(self, text: str) -> None:
        """Say something behind the count, from the next time on that it is drawn."""
        self.drawn.set_postfix_str(text, refresh=False)

    def add(self) -> None:
        """One more."""
        self.drawn.update()

    def close(self) -> None:
        """Leave it as it is."""
        self.drawn.close()
