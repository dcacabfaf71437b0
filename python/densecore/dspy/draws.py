"""One seed, several draws: the samples of one call (``n=``) and its rollouts differ, and come again when the call does.

DSPy asks its engine for one sample at a time, with the same request, and keeps the number of them and the rollout to itself.
So a language model says here which call is at work, and the engine draws all its samples in one batch when it is asked for
the first.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Call:
    rollout: object
    samples: int
    answered: int = 0
    request: object = None
    waiting: list[Any] = field(default_factory=list)
    """Samples that were drawn with the first and are yet to be asked for."""


_call: ContextVar[_Call | None] = ContextVar("densecore_call", default=None)


@contextmanager
def call(rollout: object = None, samples: int = 1) -> Iterator[None]:
    """One call of a language model; ``rollout`` is DSPy's ``rollout_id``, ``samples`` its ``n``."""
    token = _call.set(_Call(rollout or 0, samples))
    try:
        yield
    finally:
        _call.reset(token)


def sample(request: object, draw: Callable[[int], Sequence[Any]]) -> Any:
    """The next sample of a request. ``draw`` makes so many at once: all that the call will ask for, at its first question.

    >>> with call(samples=3):
    ...     [sample("the same", lambda count: list(range(count))) for _ in range(3)]
    [0, 1, 2]
    """
    now = _call.get()
    if now is None or (now.waiting and now.request is not request):
        return draw(1)[0]
    if not now.waiting:
        now.waiting = list(draw(max(1, now.samples - now.answered)))
        now.request = request
    now.answered += 1
    return now.waiting.pop(0)


def answered() -> None:
    """A sample is there that was drawn alone, and the next one of this call is another draw."""
    if (now := _call.get()) is not None:
        now.answered += 1


def seeds(given: int | None, count: int) -> list[int]:
    """The seeds of the samples that are drawn now. A call's first one, outside rollouts, has the seed as it was given.

    >>> seeds(7, 1)
    [7]
    >>> with call():
    ...     answered()
    ...     seeds(7, 1) == [7]
    False
    >>> len(set(seeds(None, 3)))
    3
    """
    if given is None:
        return [secrets.randbits(64) for _ in range(count)]
    now = _call.get() or _Call(0, 1)
    return [_seed(given, now.rollout, now.answered + i) for i in range(count)]


def _seed(given: int, rollout: object, place: int) -> int:
    if (rollout, place) == (0, 0):
        return given
    drawn = hashlib.sha256(f"{given} {rollout!r} {place}".encode()).digest()
    return int.from_bytes(drawn[:8], "little")
