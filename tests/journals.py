"""Journals of runs that never were, for tests of what is made of them."""

from __future__ import annotations

import random
from pathlib import Path

from densecore.report import Example, Header, Journal

MACHINE = {"cpu": "a processor", "tier": "portable", "physical": 2, "threads": 2, "memory_total": 8 << 30}
VERSIONS = {"python": "3.11.7", "densecore": "0.1.0"}
CLASSES = ("arithmetic", "wrong operation", "no answer", "format", "no working")
HOSTILE = (
    "</script><script>document.title = 'taken over'</script>",
    "<img src=x onerror=\"document.title = 'taken over'\"> & 'quotes' \"both\" <!-- open",
    "left \u202eright to left\u202c and \u2066isolated, \x00 nul, \x1b[31m red, \ud800 half a pair",
    "كم عدد التفاحات؟ 日本語の質問です。 " + "x" * 300,
    "</style><style>body { display: none }</style><a href='https://example.org/'>link</a>",
)


def header(run="cot", **facts):
    """A header that is the same on every machine."""
    known = {
        "run": run,
        "set": "gsm8k",
        "split": "dev",
        "program": "ChainOfThought",
        "seed": 0,
        "model": "qwen2.5-coder-1.5b-instruct",
        "model_hash": "ab" * 32,
        "quantisation": "Q4_K_M",
        "settings": {"max_tokens": 400},
        "machine": dict(MACHINE),
        "versions": dict(VERSIONS),
        "command": f"python -m densecore.eval --run {run}",
        "started": "2026-11-20T14:00:00+00:00",
    }
    return Header(**{**known, **facts})


def example(index=0, correct=True, **facts):
    """An answered question; one that is wrong unless told otherwise has no class."""
    known = {
        "index": index,
        "id": f"dev-{index}",
        "question": f"What is {index} + 1?",
        "gold": str(index + 1),
        "prediction": str(index + 1 if correct else index),
        "text": "Let me see.",
        "correct": correct,
    }
    return Example(**{**known, **facts})


def journal(path: Path, examples, **facts) -> Journal:
    """A journal of given examples, closed and read again."""
    with Journal.open(path, header(facts.pop("run", path.stem), **facts)) as opened:
        for each in examples:
            opened.append(each)
    return Journal.read(path)


def synthetic(path: Path, n=120, share=0.5, tokens=160, latent=0, seed=0, hostile=True, **facts) -> Journal:
    """A run as it might have been: some answers wrong, each in its way, and questions that try to break a page."""
    draw = random.Random(seed)
    examples, clock = [], 1_795_000_000.0
    for index in range(n):
        correct = draw.random() < share
        question = f"A shop sells {index + 2} boxes of {index % 7 + 3} pears. How many pears are that?"
        nasty = HOSTILE[index] if hostile and index < len(HOSTILE) else None
        seconds = draw.uniform(2.0, 9.0)
        clock += seconds
        examples.append(
            example(
                index,
                correct and nasty is None,
                question=nasty or question,
                prediction=nasty or str(draw.randint(10, 900)),
                text=(nasty or "First I count the boxes. Then I count the pears.\nThat makes ") * draw.randint(1, 4),
                failure=None if correct and nasty is None else draw.choice(CLASSES),
                error="TokenizerError: <b>no</b>" if index == 7 else None,
                emitted_tokens=max(1, int(draw.gauss(tokens, tokens / 5))),
                latent_steps=latent,
                prompt_tokens=draw.randint(120, 180),
                positions=draw.randint(200, 400),
                cached_positions=draw.randint(0, 64),
                seconds=seconds,
                ended=clock,
            )
        )
    return journal(path, examples, **facts)


def four(path, **facts):
    """Three of four right; tokens 10 to 40; two questions in work at once, then a pause."""
    wrong = {"correct": False, "failure": "arithmetic", "score": 0.5}
    return journal(
        path,
        [
            example(0, emitted_tokens=10, prompt_tokens=100, latent_steps=2, positions=7, seconds=10.0, ended=10.0),
            example(1, emitted_tokens=20, prompt_tokens=100, latent_steps=2, positions=7, seconds=10.0, ended=15.0),
            example(2, emitted_tokens=30, prompt_tokens=100, latent_steps=2, positions=7, seconds=2.0, ended=9.0),
            example(3, emitted_tokens=40, prompt_tokens=100, positions=7, seconds=10.0, ended=110.0, **wrong),
        ],
        **facts,
    )


def outcomes(path, right, **facts):
    """A run whose answers are right where ``right`` is true."""
    return journal(path, [example(i, correct=bool(each)) for i, each in enumerate(right)], **facts)


def three(folder):
    """Three runs over the same questions."""
    return [
        synthetic(folder / "zero_shot.jsonl", share=0.35, tokens=90, seed=1),
        synthetic(folder / "chain_of_thought.jsonl", share=0.53, tokens=170, seed=2),
        synthetic(folder / "plan_solve_latent.jsonl", share=0.58, tokens=3, latent=12, seed=3),
    ]
