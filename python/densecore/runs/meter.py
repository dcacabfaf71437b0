"""What a program's calls cost, counted where they are computed: DSPy's own records know neither latent steps nor positions.

>>> from densecore.runs.meter import metered
>>> with metered() as meter:
...     pass  # run a program here
>>> meter.emitted_tokens
0
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from densecore.results import Usage


@dataclass
class Meter:
    """Sums over the calls of one thread of control. Calls that a program hands to threads of its own are not seen."""

    calls: int = 0
    prompt_tokens: int = 0
    """Vectors of prompts included."""
    emitted_tokens: int = 0
    latent_steps: int = 0
    positions: int = 0
    cached_positions: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, usage: Usage) -> None:
        """Count a call."""
        with self._turn:
            self.calls += 1
            self.prompt_tokens += usage.prompt_tokens + usage.prompt_vectors
            self.emitted_tokens += usage.emitted_tokens
            self.latent_steps += usage.latent_steps
            self.positions += usage.positions
            self.cached_positions += usage.cached_positions


_meters: ContextVar[tuple[Meter, ...]] = ContextVar("densecore_meters", default=())


@contextmanager
def metered() -> Iterator[Meter]:
    """Count what this thread, or coroutine, computes meanwhile. Meters nest: each sees all."""
    meter = Meter()
    token = _meters.set((*_meters.get(), meter))
    try:
        yield meter
    finally:
        _meters.reset(token)


def record(usage: Usage) -> None:
    """Add a call to the meters that are running."""
    for meter in _meters.get():
        meter.add(usage)
