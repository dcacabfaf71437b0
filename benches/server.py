"""Many requests that begin alike: 64 at once, 600 ids the same in all, 60 of their own, 100 tokens each.

densecore gets them as 64 calls of `Model.generate` from 64 threads, or as one call with a list; `llama-server` over
HTTP on the loopback. Every run is a new process with a new random prefix, so that nothing is left from the one before,
and the clock runs from the first request sent to the last answer received, loading not included.

    python benches/server.py densecore <file> <threads> <seed>      one run of ours: seconds, as JSON
    python benches/server.py "densecore list" <file> <threads> <seed>
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SLOTS = (8, 16, 32, 64)
START_SECONDS = 120
RUN_SECONDS = 900.0


class TooSlow(Exception):
    """A run was broken off because a better one is known."""


def prompts(shape: dict[str, int], seed: int) -> list[list[int]]:
    """Ids of every request: one prefix for all, then some of its own."""
    random = np.random.default_rng([7, seed])
    prefix = random.integers(1000, 20_000, shape["prefix"]).tolist()
    return [prefix + random.integers(1000, 20_000, shape["own"]).tolist() for _ in range(shape["requests"])]


def at_once(work: list[Any], call: Any) -> tuple[float, list[Any]]:
    """Seconds until every thread, one for each piece of work and all let go together, has its answer; the answers."""
    gate = threading.Barrier(len(work) + 1)
    answers: list[Any] = []
    failed: list[BaseException] = []

    def one(piece: Any) -> None:
        gate.wait()
        try:
            answers.append(call(piece))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(piece,), daemon=True) for piece in work]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    gate.wait()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failed:
        raise failed[0]
    return seconds, answers


def ours(how: str, path: Path, threads: int, shape: dict[str, int], seed: int) -> dict[str, Any]:
    """One run of densecore in this process, with what it does by default."""
    import densecore

    model = densecore.Model.load(path, backend=densecore.CPU(threads=threads))
    model.generate(densecore.Ids(list(range(1000, 1016))), max_tokens=4, ignore_eos=True)  # as the server warms up
    work = [densecore.Ids(ids) for ids in prompts(shape, seed)]
    if how == "densecore":
        seconds, made = at_once(work, lambda ids: model.generate(ids, max_tokens=shape["tokens"], ignore_eos=True))
    else:
        started = time.perf_counter()
        made = model.generate([[ids] for ids in work], max_tokens=shape["tokens"], ignore_eos=True)
        seconds = time.perf_counter() - started
    if [len(one.ids) for one in made] != [shape["tokens"]] * shape["requests"]:
        raise RuntimeError(f"answers of {sorted({len(one.ids) for one in made})} tokens")
    return _run(seconds, sum(one.usage.cached_positions for one in made), shape)


def _run(seconds: float, cached: int, shape: dict[str, int]) -> dict[str, Any]:
    """What one run took, and how many of its prompts' positions were found rather than computed."""
    prompted = shape["requests"] * (shape["prefix"] + shape["own"])
    return {"seconds": seconds, "done": shape["requests"], "found": round(cached / prompted, 3)}


class LlamaServer:
    """A `llama-server` with so many slots, from entering to leaving."""

    def __init__(
        self, program: Path, path: Path, threads: int, shape: dict[str, int], settings: dict[str, Any]
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        slots = settings["slots"]
        each = -(-(shape["prefix"] + shape["own"] + shape["tokens"] + 8) // 256) * 256  # contexts are multiples of 256
        self.command = [
            str(program), "--model", str(path), "--host", "127.0.0.1", "--port", str(self.port),
            "--threads", str(threads), "--threads-batch", str(threads), "--parallel", str(slots),
            "--ctx-size", str(slots * each), "--cont-batching", "--no-webui",
            "--kv-unified" if settings["unified"] else "--no-kv-unified",
        ]  # fmt: skip
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed on leaving
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> LlamaServer:
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=subprocess.STDOUT, text=True)
        end = time.monotonic() + START_SECONDS
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise RuntimeError(f"llama-server did not start: {self.tail}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.log.seek(0)
        self.tail = self.log.read()[-1500:]
        self.log.close()

    def _healthy(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def ask(self, ids: list[int], tokens: int, seconds: float) -> int:
        """One request, its answer read to the end and its length checked; positions found in the server's caches."""
        body = {
            "prompt": ids, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": True,
            "stream": False,
        }  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        if answer.get("tokens_predicted") != tokens:
            raise RuntimeError(f"llama-server answered {str(answer)[:300]}")
        return int(answer.get("timings", {}).get("cache_n", 0))


def theirs(
    program: Path, path: Path, threads: int, shape: dict[str, int], seed: int, settings: dict[str, Any],
    limit: float = RUN_SECONDS,
) -> dict[str, Any]:  # fmt: skip
    """One run of llama-server; past the limit it is broken off."""
    with LlamaServer(program, path, threads, shape, settings) as server:
        server.ask(list(range(1000, 1016)), 4, 60)
        try:
            seconds, cached = at_once(prompts(shape, seed), lambda ids: server.ask(ids, shape["tokens"], limit))
        except TimeoutError as error:
            raise TooSlow(f"{settings}: more than {limit:.0f} s") from error
    return _run(seconds, sum(cached), shape)


def choose(
    program: Path, path: Path, threads: int, shape: dict[str, int], tell: Any
) -> tuple[dict[str, Any], list[Any]]:
    """The best number of slots, then whether their cells are better in one pool; and every try with its seconds."""
    best: dict[str, Any] = {}
    least, tried = RUN_SECONDS, []
    waiting = [{"slots": slots, "unified": False} for slots in (32, 16, 64, 8)]
    while waiting:
        settings = waiting.pop(0)
        try:
            seconds = float(theirs(program, path, threads, shape, 1000, settings, limit=least)["seconds"])
        except TooSlow:
            seconds = float("inf")
        tried.append({**settings, "seconds": round(seconds, 2) if seconds < least else f"over {least:.1f}"})
        tell(f"llama-server {settings}: {tried[-1]['seconds']} s")
        if seconds < least:
            best, least = settings, seconds
        if best and not waiting and not any(one["unified"] for one in tried):
            waiting = [{**best, "unified": True}]
    if not best:
        raise RuntimeError(f"no setting of llama-server finished: {tried}")
    return best, tried


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benches.measures import SHARED

    how, file, count, number = sys.argv[1:]
    print(json.dumps(ours(how, Path(file), int(count), SHARED, int(number))))
