"""Sixty-four threads of DSPy programs for ten minutes: none waits for ever, no answer is lost, memory stays.

One call in ten raises, inside the engine or in the program, and its neighbours must not notice: every thread checks its
answers against those the model gave alone.
"""

from __future__ import annotations

import os
import random
import statistics
from typing import Any

from tests.golden.fixtures import real_path
from tests.verify.crowd import Broken, Crowd

PEERS = ("dspy",)
MODELS = ("smollm2-135m-instruct",)
SECONDS = float(os.environ.get("DENSECORE_SOAK_SECONDS", "600"))
WARM_SECONDS = 120.0
GROWTH_MB_A_MINUTE = 1.0
QUESTIONS = 24
TOKENS = 12


def check() -> tuple[bool, dict[str, Any]]:
    """Resident memory once a second; its slope after the second minute."""
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    from densecore.dspy import DenseLM

    lm = DenseLM(str(real_path(*MODELS)), max_tokens=TOKENS, cache=False, load={"context": 1024})
    program = dspy.Predict("question -> answer")
    questions = [f"What is {n} plus {3 * n}?" for n in range(QUESTIONS)]
    alone = {question: lm(question)[0] for question in questions}
    crowd = Crowd(lm, SECONDS)

    def one(number: int, rng: random.Random) -> None:
        question, kind = rng.choice(questions), rng.random()
        if kind < 0.05:
            try:
                lm(question, frequency_penalty=1.0)  # refused by the engine
            except Exception:
                crowd.raised[number] += 1
        elif kind < 0.1:
            try:
                with dspy.context(lm=lm):
                    raise Broken(question)
            except Broken:
                crowd.raised[number] += 1
        elif kind < 0.15:
            try:
                with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
                    program(question=question)
            except AdapterParseError:  # so small a model seldom keeps the form
                pass
            crowd.answered[number] += 1
        else:
            crowd.wrong[number] += lm(question)[0] != alone[question]
            crowd.answered[number] += 1

    well, figures = crowd.run(one)
    late = [(at / 60, size) for at, size in crowd.memory if WARM_SECONDS < at <= SECONDS]
    slope = _slope(late) if len(late) > 10 else 0.0
    figures["resident_mb"] = {"at_two_minutes": late[0][1] if late else None, "at_the_end": crowd.memory[-1][1]}
    figures["growth_mb_a_minute"] = round(slope, 3)
    figures["resident_mb_by_minute"] = [
        [round(min(each)), round(statistics.median(each)), round(max(each))]
        for each in ([size for at, size in crowd.memory if minute <= at / 60 < minute + 1] for minute in range(10))
        if each
    ]
    return well and slope <= GROWTH_MB_A_MINUTE, figures


def _slope(points: list[tuple[float, float]]) -> float:
    """Least squares."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
