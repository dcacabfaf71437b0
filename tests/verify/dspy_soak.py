"""Sixty-four threads of DSPy programs for ten minutes: none waits for ever, no answer is lost, memory stays.

One call in ten raises, inside the engine or in the program, and its neighbours must not notice: every thread checks its
answers against those the model gave alone.
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from typing import Any

from tests.golden.fixtures import real_path
from tests.golden.test_exchange import resident
from tests.verify.record import say

PEERS = ("dspy",)
MODELS = ("smollm2-135m-instruct",)
THREADS = 64
SECONDS = float(os.environ.get("DENSECORE_SOAK_SECONDS", "600"))
WARM_SECONDS = 120.0
GROWTH_MB_A_MINUTE = 1.0
STUCK_SECONDS = 120.0
QUESTIONS = 24
TOKENS = 12


class Broken(RuntimeError):
    """What a program of the soak raises."""


def check() -> tuple[bool, dict[str, Any]]:
    """Resident memory once a second; its slope after the second minute."""
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    from densecore.dspy import DenseLM

    lm = DenseLM(str(real_path(*MODELS)), max_tokens=TOKENS, cache=False, load={"context": 1024})
    program = dspy.Predict("question -> answer")
    questions = [f"What is {n} plus {3 * n}?" for n in range(QUESTIONS)]
    alone = {question: lm(question)[0] for question in questions}
    asked, answered, wrong, raised = ([0] * THREADS for _ in range(4))
    seen = [time.monotonic()] * THREADS
    until = time.monotonic() + SECONDS

    def one(number: int, rng: random.Random) -> None:
        question = rng.choice(questions)
        asked[number] += 1
        kind = rng.random()
        if kind < 0.05:
            try:
                lm(question, frequency_penalty=1.0)  # refused by the engine
            except Exception:
                raised[number] += 1
        elif kind < 0.1:
            try:
                with dspy.context(lm=lm):
                    raise Broken(question)
            except Broken:
                raised[number] += 1
        elif kind < 0.15:
            try:
                with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
                    program(question=question)
            except AdapterParseError:  # so small a model seldom keeps the form
                pass
            answered[number] += 1
        else:
            wrong[number] += lm(question)[0] != alone[question]
            answered[number] += 1

    def work(number: int) -> None:
        rng = random.Random(number)
        with dspy.context(lm=lm, disable_history=True):
            while time.monotonic() < until:
                try:
                    one(number, rng)
                except Exception as error:
                    say(f"  thread {number}: {type(error).__name__}: {error}"[:300])
                seen[number] = time.monotonic()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(THREADS)]
    with dspy.context(disable_history=True):
        for thread in threads:
            thread.start()
    began, memory, longest = time.monotonic(), [], 0.0
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        now = time.monotonic()
        memory.append((now - began, resident() / 2**20))
        longest = max([longest, *(now - seen[n] for n, thread in enumerate(threads) if thread.is_alive())])
        if longest > STUCK_SECONDS:
            break
    late = [(at / 60, size) for at, size in memory if WARM_SECONDS < at <= SECONDS]
    slope = _slope(late) if len(late) > 10 else 0.0
    figures = {
        "threads": THREADS,
        "seconds": SECONDS,
        "asked": sum(asked),
        "answered": sum(answered),
        "raised_on_purpose": sum(raised),
        "lost": sum(asked) - sum(answered) - sum(raised),
        "changed_answers": sum(wrong),
        "longest_call_seconds": round(longest, 1),
        "resident_mb": {"at_two_minutes": late[0][1] if late else None, "at_the_end": memory[-1][1]},
        "growth_mb_a_minute": round(slope, 3),
        "resident_mb_by_minute": [
            [round(min(each)), round(statistics.median(each)), round(max(each))]
            for each in ([size for at, size in memory if minute <= at / 60 < minute + 1] for minute in range(10))
            if each
        ],
    }
    passed = not figures["lost"] and not figures["changed_answers"] and longest <= STUCK_SECONDS
    return passed and slope <= GROWTH_MB_A_MINUTE and bool(sum(raised)), figures


def _slope(points: list[tuple[float, float]]) -> float:
    """Least squares."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
