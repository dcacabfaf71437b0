"""Thousands of mixed calls from four threads, a tenth of them cancelled: memory stays, answers stay."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from tests.golden.fixtures import real_path
from tests.golden.test_exchange import resident

MODELS = ("smollm2-135m-instruct",)
CALLS = 4_000
THREADS = 4
GROWTH_MB = 16.0
PREFIX_BYTES = 64 << 20
WORDS = "Natalia sold clips to her friends in April and half as many in May how many did she sell altogether".split()


def check() -> tuple[bool, dict[str, Any]]:
    """The first eighth warms up; resident memory is read after it and at the end."""
    import densecore

    model = densecore.Model.load(real_path(*MODELS), prefix_bytes=PREFIX_BYTES, context=1024)
    question = [{"role": "user", "content": "What is 7 times 6?"}]
    before = model.generate(question, max_tokens=12).ids
    counts: dict[str, int] = {}
    errors: list[str] = []
    lock = threading.Lock()

    def prompt(rng: random.Random) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(3, 150)))

    def one(rng: random.Random) -> str:
        kind = rng.choice(("generate", "stream", "think", "score", "encode", "context", "cancel"))
        text, cancel = prompt(rng), densecore.Cancel()
        if kind == "generate":
            model.generate(text, max_tokens=rng.randint(1, 24), temperature=0.7, cancel=cancel)
        elif kind == "stream":
            with model.stream(text, max_tokens=24) as stream:
                for _ in range(rng.randint(1, 8)):
                    if next(stream, None) is None:
                        break
        elif kind == "think":
            model.think(text, rng.randint(1, 12))
        elif kind == "score":
            model.score(text, " and so on", top=2)
        elif kind == "encode":
            model.encode(text, pool="mean")
        elif kind == "context":
            context = model.prefill(text)
            fork = context.fork().extend(" then")
            fork.generate(max_tokens=4)
            model.import_context(context.export() or b"")
        else:
            timer = threading.Timer(rng.random() * 0.05, cancel.cancel)
            timer.start()
            model.generate(text, max_tokens=200, ignore_eos=True, cancel=cancel)
            timer.join()
        return kind

    def work(seed: int, calls: int) -> None:
        rng = random.Random(seed)
        for _ in range(calls):
            try:
                kind = one(rng)
            except Exception as error:
                kind = "failed"
                errors.append(f"{type(error).__name__}: {error}"[:200])
            with lock:
                counts[kind] = counts.get(kind, 0) + 1

    def wave(first_seed: int, calls: int) -> None:
        threads = [threading.Thread(target=work, args=(first_seed + n, calls // THREADS)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    started = time.monotonic()
    wave(0, CALLS // 8)
    warm = resident()
    for number in range(7):
        wave(100 * (number + 1), CALLS // 8)
    grown = (resident() - warm) / 2**20
    same = model.generate(question, max_tokens=12).ids == before
    caches = model.memory.caches / 2**20
    figures = {
        "calls": sum(counts.values()),
        "by_kind": dict(sorted(counts.items())),
        "errors": errors[:3],
        "grown_mb": round(grown, 1),
        "cap_mb": GROWTH_MB,
        "caches_kept_mb": round(caches, 1),
        "prefix_cap_mb": PREFIX_BYTES / 2**20,
        "same_answer_after": same,
        "seconds": round(time.monotonic() - started, 1),
        "seed": 0,
    }
    return not errors and same and grown <= GROWTH_MB and caches <= PREFIX_BYTES / 2**20, figures
