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
from typing import Any

from tests.golden.fixtures import real_path
from tests.verify.crowd import Broken, Crowd

PEERS = ("dspy",)
MODELS = ("smollm2-135m-instruct",)
SECONDS = float(os.environ.get("DENSECORE_COMPANY_SECONDS", "180"))
QUESTIONS = 24
TOKENS = 12


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
    crowd = Crowd(lm, SECONDS)

    def one(number: int, rng: random.Random) -> None:
        question, kind = rng.choice(questions), rng.random()
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
                crowd.raised[number] += 1
            else:
                crowd.answered[number] += 1
        elif kind < 0.17:
            try:
                with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
                    free(question=question)
            except AdapterParseError:  # so small a model seldom keeps the form
                pass
            crowd.answered[number] += 1
        elif kind < 0.3:
            with dspy.context(lm=lm, adapter=DenseAdapter()):
                crowd.wrong[number] += held(question=question).toDict() != formed[question]
            crowd.answered[number] += 1
        else:
            crowd.wrong[number] += lm(question)[0] != alone[question]
            crowd.answered[number] += 1

    def given_up(question: str, after: int) -> None:
        message = dspy.lm15.Message.user(question)
        request = dspy.lm15.Request(model=lm.model, messages=(message,), config=dspy.lm15.Config(max_tokens=400))
        for count, _ in enumerate(lm.engine.stream(request)):
            if count == after:
                raise Broken(question)

    well, figures = crowd.run(one)
    sizes = [size for _, size in crowd.memory]
    figures["resident_mb"] = {"least": round(min(sizes)), "most": round(max(sizes))}
    return well, figures
