"""A process may end while the engine works: with the exit status it asked for, at once, and without a word of a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

SETTING = """
import sys, threading
import numpy as np
import densecore
model = densecore.Model.load(sys.argv[1], context=8192)
rows = np.asarray(model.embed("Natalia sold clips to 48 of her friends. " * 20)).copy()
asked = dict(max_tokens=6000, ignore_eos=True)
begun = threading.Barrier(4)

class Foreign:
    def __init__(self, array):
        self.array = array
    def __dlpack__(self, **options):
        return self.array.__dlpack__()
    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

def again_and_again(work):
    def run():
        begun.wait()
        while True:
            work()
    for _ in range(3):
        threading.Thread(target=run, daemon=True).start()
    begun.wait()

def iterate():
    for _ in model.stream(rows, **asked):
        pass
"""
WORK = {
    "streams": "streams = [model.stream('One, two', **asked) for _ in range(3)]; next(streams[0])",
    "borrowed": "streams = [model.stream(densecore.Prompt(rows), **asked) for _ in range(3)]; next(streams[0]); del rows",
    "exchanged": "streams = [model.stream(densecore.Prompt(Foreign(rows)), **asked) for _ in range(3)]; next(streams[0])",
    "answers": "again_and_again(lambda: model.generate('One, two', max_tokens=500, ignore_eos=True))",
    "vectors": "again_and_again(lambda: model.encode(densecore.Prompt(Foreign(rows))))",
    "iterated": "again_and_again(iterate)",
    "loaded": "again_and_again(lambda: densecore.Model.load(sys.argv[1]))",
    "contexts": "again_and_again(lambda: model.prefill(densecore.Prompt(rows)).fork().extend('more'))",
    "abandoned": """
from densecore.dspy.engine import AsyncDenseEngine, DenseEngine
import asyncio, dspy
begun = threading.Event()
request = dspy.lm15.Request(model="x", messages=(dspy.lm15.Message.user("One, two"),),
                            config=dspy.lm15.Config(max_tokens=6000))
engine = AsyncDenseEngine(DenseEngine(model))
async def ask():
    asking = asyncio.ensure_future(engine.complete(request))
    await asyncio.sleep(0.05)
    begun.set()
    await asking
    print("nobody waited for this")
threading.Thread(target=lambda: asyncio.run(ask()), daemon=True).start()
begun.wait()
""",
    "coroutines": """
from densecore.dspy.engine import AsyncDenseEngine, DenseEngine
from densecore import Cancel
import asyncio, dspy
engine = AsyncDenseEngine(DenseEngine(model))
request = dspy.lm15.Request(model="x", messages=(dspy.lm15.Message.user("One, two"),),
                            config=dspy.lm15.Config(max_tokens=6000))
async def leave():
    task = asyncio.ensure_future(engine.complete(request))
    await asyncio.sleep(0.05)
asyncio.run(leave())
""",
}
FORKED = """
import os
from densecore.dspy.engine import AsyncDenseEngine, DenseEngine
import asyncio, dspy
engine = AsyncDenseEngine(DenseEngine(model))
request = dspy.lm15.Request(model="x", messages=(dspy.lm15.Message.user("One, two"),),
                            config=dspy.lm15.Config(max_tokens=4))
asyncio.run(engine.complete(request))
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    asyncio.run(engine.complete(request))
except densecore.errors.ForkError:
    os._exit(5)
"""
ENDINGS = {"": 0, "sys.exit(3)": 3, "raise ValueError('on purpose')": 1, "import os; os._exit(4)": 4}
OFTEN, SELDOM = 20, len(ENDINGS)
TIMES = {work: OFTEN if work in ("streams", "exchanged", "answers") else SELDOM for work in WORK}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small enough to start often, with room for answers that no process waits for."""
    pytest.importorskip("transformers", reason="the maker of tiny models is the extra `dev`")
    return tiny.make_tiny("qwen2", tmp_path_factory.mktemp("exit"), seed=6, layers=2, context=16384)


@pytest.mark.parametrize("work", WORK)
def test_a_process_ends_while_the_engine_works(folder: Path, work: str) -> None:
    if work in ("coroutines", "abandoned"):
        pytest.importorskip("dspy", reason="the extra `dspy`")
    for number in range(TIMES[work]):
        ending, status = list(ENDINGS.items())[number % len(ENDINGS)]
        done = subprocess.run(
            [sys.executable, "-c", f"{SETTING}\n{WORK[work]}\n{ending}", str(folder)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "RUST_BACKTRACE": "0"},
        )
        assert done.returncode == status, done.stderr
        assert not done.stdout, done.stdout
        told = done.stderr if status != 1 else done.stderr.partition("Traceback")[0]
        assert not told, told
        assert "panicked" not in done.stderr
        assert "Fatal" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_so_by_coroutines_too(folder: Path) -> None:
    """Its threads are gone; it must not wait for them."""
    pytest.importorskip("dspy", reason="the extra `dspy`")
    run = [sys.executable, "-W", "ignore", "-c", f"{SETTING}\n{FORKED}", str(folder)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 5, done.stderr
