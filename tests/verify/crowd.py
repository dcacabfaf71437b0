"""Many threads at one language model: who was answered, who was not, and whether somebody waits for ever."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.golden.test_exchange import resident
from tests.verify.record import say

THREADS = 64
STUCK_SECONDS = 120.0


class Broken(RuntimeError):
    """What a program of the crowd raises on purpose."""


class Crowd:
    """Threads that ask until the time is up; each has its counts."""

    def __init__(self, lm: Any, seconds: float) -> None:
        self.lm, self.seconds = lm, seconds
        self.asked, self.answered, self.wrong, self.raised = ([0] * THREADS for _ in range(4))
        self.memory: list[tuple[float, float]] = []  # seconds since the beginning, MB

    def run(self, one: Callable[[int, random.Random], None]) -> tuple[bool, dict[str, Any]]:
        """Each thread calls ``one(number, random)`` again and again; returns whether all is well, and the figures."""
        import dspy

        until, seen, longest = time.monotonic() + self.seconds, [time.monotonic()] * THREADS, 0.0

        def work(number: int) -> None:
            rng = random.Random(number)
            with dspy.context(lm=self.lm, disable_history=True):
                while time.monotonic() < until:
                    self.asked[number] += 1
                    try:
                        one(number, rng)
                    except Exception as error:
                        say(f"  thread {number}: {type(error).__name__}: {error}"[:300])
                    seen[number] = time.monotonic()

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(THREADS)]
        with dspy.context(disable_history=True):
            for thread in threads:
                thread.start()
        began = time.monotonic()
        while any(thread.is_alive() for thread in threads) and longest <= STUCK_SECONDS:
            time.sleep(1)
            now = time.monotonic()
            self.memory.append((now - began, resident() / 2**20))
            longest = max([longest, *(now - seen[n] for n, thread in enumerate(threads) if thread.is_alive())])
        lost = sum(self.asked) - sum(self.answered) - sum(self.raised)
        figures = {
            "threads": THREADS,
            "seconds": self.seconds,
            "asked": sum(self.asked),
            "answered": sum(self.answered),
            "raised_on_purpose": sum(self.raised),
            "lost": lost,
            "changed_answers": sum(self.wrong),
            "longest_call_seconds": round(longest, 1),
        }
        well = not lost and not sum(self.wrong) and longest <= STUCK_SECONDS
        return well and bool(sum(self.raised)), figures
