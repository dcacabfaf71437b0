"""Sixty-four threads of DSPy programs in bad company: streams given up, coroutines timed out, answers held to forms.

One call in eight ends badly: refused by the engine, given up among its tokens, or timed out in a coroutine. Those computed
together with it must not notice: every thread checks its answers, free ones and such as are held to a form, against those
the model gave alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from typing import Any

from tests.golden.fixtures import real_path
from tests.golden.test_exchange import resident
from tests.verify.record import say

PEERS = ("dspy",)
MODELS = ("smollm2-135m-instruct",)
THREADS = 64
SECONDS = float(os.environ.get("DENSECORE_COMPANY_SECONDS", "180"))
STUCK_SECONDS = 120.0
QUESTIONS = 24
TOKENS = 12


class Broken(RuntimeError):
    """What a program of the soak raises."""


def check() -> tuple[bool, dict[str, Any]]:
    """Nothing lost, nothing stuck, nothing changed. Memory in use goes up and down with the forms at work, and is only told."""
    import dspy
    from dspy.utils.exceptions import AdapterParseError, LMUnsupportedFeatureError

    from densecore.dspy import DenseAdapter, DenseLM

    logging.getLogger("dspy").setLevel(logging.ERROR)  # it warns of each answer of so few tokens
    lm = DenseLM(str(real_path(*MODELS)), max_tokens=TOKENS, cache=False, load={"context": 1024})
    free, held = dspy.Predict("question -> answer"), dspy.Predict("question -> thought, total: int", max_tokens=80)
    questions = [f"What is {n} plus {3 * n}?" for n in range(QUESTIONS)]
    alone = {question: lm(question)[0] for question in questions}
    with dspy.context(lm=lm, adapter=DenseAdapter()):
        formed = {question: held(question=question).toDict() for question in questions}
    asked, answered, wrong, raised = ([0] * THREADS for _ in range(4))
    seen = [time.monotonic()] * THREADS
    until = time.monotonic() + SECONDS

    def one(number: int, rng: random.Random) -> None:
        question = rng.choice(questions)
        asked[number] += 1
        kind = rng.random()
        if kind < 0.12:
            try:
                if kind < 0.04:
                    lm(question, frequency_penalty=1.0)  # refused by the engine
                    raise AssertionError("a setting the engine does not have was taken")
                if kind < 0.08:
                    given_up(question, rng.randrange(1, 6))
                else:
                    asyncio.run(asyncio.wait_for(lm.acall(question, max_tokens=400), rng.uniform(0.05, 1.0)))
            except (LMUnsupportedFeatureError, Broken, asyncio.TimeoutError):
                raised[number] += 1
            else:
                answered[number] += 1
        elif kind < 0.17:
            try:
                with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
                    free(question=question)
            except AdapterParseError:  # so small a model seldom keeps the form
                pass
            answered[number] += 1
        elif kind < 0.3:
            with dspy.context(lm=lm, adapter=DenseAdapter()):
                wrong[number] += held(question=question).toDict() != formed[question]
            answered[number] += 1
        else:
            wrong[number] += lm(question)[0] != alone[question]
            answered[number] += 1

    def given_up(question: str, after: int) -> None:
        message = dspy.lm15.Message.user(question)
        request = dspy.lm15.Request(model=lm.model, messages=(message,), config=dspy.lm15.Config(max_tokens=400))
        for count, _ in enumerate(lm.engine.stream(request)):
            if count == after:
                raise Broken(question)

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
    memory, longest = [resident() / 2**20], 0.0
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        now = time.monotonic()
        memory.append(resident() / 2**20)
        longest = max([longest, *(now - seen[n] for n, thread in enumerate(threads) if thread.is_alive())])
        if longest > STUCK_SECONDS:
            break
    figures = {
        "threads": THREADS,
        "seconds": SECONDS,
        "asked": sum(asked),
        "answered": sum(answered),
        "raised_on_purpose": sum(raised),
        "lost": sum(asked) - sum(answered) - sum(raised),
        "changed_answers": sum(wrong),
        "longest_call_seconds": round(longest, 1),
        "resident_mb": {"least": round(min(memory)), "most": round(max(memory))},
    }
    passed = not figures["lost"] and not figures["changed_answers"] and longest <= STUCK_SECONDS
    return passed and bool(sum(raised)), figures
