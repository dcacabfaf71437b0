"""A DSPy program over three engines: chain of thought on 64 word problems, asked by 16 threads of DSPy's.

The program, its adapter and its questions are the same: densecore in this process, `llama-server` with the best of some
numbers of slots, and the server of llama-cpp-python, both over HTTP on the loopback by DSPy's own client. The sides take
turns. llama-cpp-python's server answers one request at a time, so it gets fewer questions; rates are compared.

    python benches/programs.py [--rounds 3] [--save]        needs: pip install "llama-cpp-python[server]"
"""

from __future__ import annotations

import argparse
import json
import logging
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import dspy  # noqa: E402
from benches import peers  # noqa: E402
from benches.compare import write  # noqa: E402
from benches.server import LlamaServer  # noqa: E402
from tests.verify.record import machine, threads  # noqa: E402

from densecore import data, models, programs  # noqa: E402
from densecore.dspy import DenseLM  # noqa: E402

PLACE = ROOT / "results" / "bench" / "programs.json"
MODEL = "qwen2.5-coder-1.5b-instruct"
THREADS, QUESTIONS, FEW = 16, 64, 16
TOKENS = 400
ROOM = {"prefix": 0, "own": 600, "tokens": TOKENS}
SLOTS = (4, 8, 16)  # more than DSPy has threads would stand empty
START_SECONDS = 120
OURS, SERVER, PYTHON = "densecore", "llama-server", "llama-cpp-python server"


@contextmanager
def densecore_lm(path: Path) -> Iterator[dspy.LM]:
    """The engine in this process."""
    yield DenseLM(str(path), max_tokens=TOKENS, cache=False)


@contextmanager
def llama_server_lm(path: Path, slots: int) -> Iterator[dspy.LM]:
    """`llama-server` with continuous batching."""
    with LlamaServer(peers.server(), path, threads(), ROOM, {"slots": slots, "unified": False}) as server:
        yield over_http(server.port)


@contextmanager
def python_server_lm(path: Path) -> Iterator[dspy.LM]:
    """`python -m llama_cpp.server`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(path), "--port", str(port)]
    command += ["--n_ctx", "2048", "--n_threads", str(threads()), "--n_threads_batch", str(threads())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_SECONDS
        while not answers(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("llama_cpp.server did not start")
            time.sleep(0.3)
        yield over_http(port)
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    """Whether somebody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def over_http(port: int) -> dspy.LM:
    """DSPy's own client of a server that speaks as OpenAI's does."""
    base = f"http://127.0.0.1:{port}/v1"
    return dspy.LM("openai/local", api_base=base, api_key="none", max_tokens=TOKENS, temperature=0.0, cache=False)


def rate(lm: dspy.LM, rows: list[data.Row]) -> dict[str, Any]:
    """Questions a minute, and how many of them were answered rightly."""
    program = programs.make("ChainOfThought", programs.MATH)
    examples = [programs.MATH.example(row) for row in rows]
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), disable_history=True):
        program(**examples[-1].inputs())  # as a user's first question warms up
        asked = dspy.Parallel(num_threads=THREADS, max_errors=len(rows), disable_progress_bar=True, timeout=0)
        started = time.perf_counter()
        found = asked([(program, example) for example in examples])
        seconds = time.perf_counter() - started
    right = sum(programs.MATH.metric(e, answer) for e, answer in zip(examples, found, strict=True) if answer)
    return {"per_minute": 60 * len(rows) / seconds, "right": right / len(rows), "failed": sum(a is None for a in found)}


def main() -> int:
    """Measure the sides in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, nargs="+", default=SLOTS, help="of llama-server, to choose the best from")
    parser.add_argument("--set", default="gsm8k", help="gsm8k, or problems where it is not at hand")
    parser.add_argument("--save", action="store_true", help=f"write {PLACE.name}")
    options = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.CRITICAL)  # an answer that cannot be read counts as failed, see below
    if subprocess.run(
        [sys.executable, "-m", "llama_cpp.server", "--help"], capture_output=True, check=False
    ).returncode:
        parser.error(
            "llama_cpp.server does not start here; its parts are missing: pip install 'llama-cpp-python[server]'"
        )
    path = models.resolve(MODEL).path
    rows = data.load(options.set, "dev", limit=QUESTIONS)
    tried = {}
    for count in options.slots:
        with llama_server_lm(path, count) as lm:
            tried[count] = rate(lm, rows)  # all of them: of a few the longest answer decides
        print(f"llama-server, {count} slots: {tried[count]}", flush=True)
    slots = max(tried, key=lambda count: float(tried[count]["per_minute"]))
    sides: dict[str, Any] = {
        OURS: (densecore_lm, rows),
        SERVER: (lambda path: llama_server_lm(path, slots), rows),
        PYTHON: (python_server_lm, rows[:FEW]),
    }
    rounds: dict[str, list[dict[str, Any]]] = {OURS: [], SERVER: [tried[slots]], PYTHON: []}
    for number in range(options.rounds):
        for side in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            if len(rounds[side]) > number or (side == PYTHON and number):
                continue  # measured above; far behind, so that once is enough to know
            opened, asked = sides[side]
            with opened(path) as lm:
                rounds[side].append(rate(lm, asked))
            print(f"round {number + 1}, {side}: {rounds[side][-1]}", flush=True)
    middle = {side: statistics.median(one["per_minute"] for one in made) for side, made in rounds.items()}
    made = {
        "command": " ".join(["python", "benches/programs.py", *sys.argv[1:]]),
        "model": MODEL,
        "model_hash": models.resolve(MODEL).sha256,
        "machine": machine(),
        "questions": f"{options.set} dev, first {QUESTIONS} ({FEW} for {PYTHON})",
        "threads_of_dspy": THREADS,
        "seed": 0,
        "slots": {"tried": {str(count): one["per_minute"] for count, one in tried.items()}, "best": slots},
        "rounds": rounds,
        "examples_per_minute": middle,
        "ratio": {side: middle[OURS] / middle[side] for side in (SERVER, PYTHON)},
    }
    print(json.dumps(made["ratio"]))
    if options.save:
        write(PLACE, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
