"""One seed, several draws: the samples of one call (``n=``) and its rollouts differ, and come again when the call does.

DSPy asks its engine for one sample at a time, with the same request, and keeps the rollout to itself. So a language model
says here which call is at work, and the engine asks which of its draws it is about to make.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class _Call:
    rollout: object
    answered: int = 0


_call: ContextVar[_Call | None] = ContextVar("densecore_call", default=None)


@contextmanager
def call(rollout: object = None) -> Iterator[None]:
    """One call of a language model; ``rollout`` is DSPy's ``rollout_id``."""
    token = _call.set(_Call(rollout or 0))
    try:
        yield
    finally:
        _call.reset(token)


def answered() -> None:
    """A sample is there, and the next one of this call is another draw. One that failed is drawn again."""
    if (now := _call.get()) is not None:
        now.answered += 1


def seed(given: int) -> int:
    """The seed of the sample that is drawn now. A call's first one, outside rollouts, has the seed as it was given.

    >>> seed(7)
    7
    >>> with call():
    ...     answered()
    ...     seed(7) == 7
    False
    """
    now = _call.get()
    if now is None or (now.rollout, now.answered) == (0, 0):
        return given
    drawn = hashlib.sha256(f"{given} {now.rollout!r} {now.answered}".encode()).digest()
    return int.from_bytes(drawn[:8], "little")
