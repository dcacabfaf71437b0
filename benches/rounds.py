"""Rounds of measures: workers and single processes, the sides in turn, llama.cpp's settings tried first."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benches import bandwidth, models, peers, server
from benches.measures import AGAIN, BY_NAME, EARLIER, FILE, LLAMA, OURS, SERVER, SHARED, TRIED, Measure
from tests.verify.record import sha256

ROOT = Path(__file__).resolve().parents[1]
WORKER, SHARED_RUN = ROOT / "benches" / "sides.py", ROOT / "benches" / "server.py"
KNOWN_ROUNDS = 2  # of a side that is there to be known
TRY_SEED, WARM_SEED = 900, 999


class SideFailed(Exception):
    """A side stopped, or did something else than was asked; its own message is on the error stream."""


class Worker:
    """One side in its process."""

    def __init__(self, side: str, path: Path, options: argparse.Namespace, group: str, context: int) -> None:
        kept = "kept" if group in ("batch", "sampling") else "fresh"  # a batch goes on from prefixes that lie there
        command = [sys.executable, str(WORKER), "serve", side, str(path), str(options.threads), str(context), kept]
        self.side = side
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(side, group, options)
        )
        self.facts = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SideFailed(f"{self.side} stopped with {self.process.wait()}; its message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        """One piece of work: how long it took, and what was done."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # one that has died gives no answer, which says it better
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End of input ends the worker."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # one that has died already takes no more input
            self.process.stdin.close()
        self.process.wait()


def environment(side: str, group: str, options: argparse.Namespace) -> dict[str, str]:
    """Of a side's process: the build it imports, and what the group asks of both sides' instructions."""
    made: dict[str, str] = options.build.environment() if side in (EARLIER, AGAIN) else dict(os.environ)
    if group == "avx2" and side.startswith(OURS):
        made["DENSECORE_TIER"] = "avx2"
    if group == "avx2" and side == LLAMA:
        made["PYTHONPATH"] = str(peers.narrow_package())
        made.pop("LLAMA_CPP_LIB_PATH", None)
    return made


def fresh(side: str, what: str, options: argparse.Namespace) -> float:
    """Seconds to the first id, or peak MiB, of a process that does nothing else."""
    command = [sys.executable, str(WORKER), what, side, str(options.path), str(options.threads)]
    env = environment(side, "process", options)
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as child:
        assert child.stdout is not None
        line = child.stdout.readline().split()
        seconds = time.perf_counter() - started
        child.communicate()
    if not line:
        raise SideFailed(f"{side} gave nothing for {what}; its message is above")
    return seconds if what == "first" else float(line[1])


def bare_numpy() -> float:
    """Peak MiB of a process that only imports NumPy."""
    code = "import numpy, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def tell(text: str) -> None:
    """Progress on the error stream."""
    print(f"  {text}", file=sys.stderr, flush=True)


@functools.cache
def catalogue(name: str) -> Path:
    """The file of a catalogue name or a path."""
    if Path(name).is_file():
        return Path(name)
    from densecore import models as catalogued

    return Path(catalogued.resolve(name).path)


def model_path(kind: str, options: argparse.Namespace) -> Path:
    """The file or folder a measure runs on."""
    if kind == "dense":
        return models.dense_folder()
    if kind == "mixed":
        return models.mixed_gguf(options.path)
    return catalogue("smollm2-135m-instruct") if kind == "smollm" else options.path


@functools.cache
def content(path: Path) -> str:
    """SHA-256 of a model's weights."""
    return sha256(path / "model.safetensors" if path.is_dir() else path)


def chosen_sides(measure: Measure, options: argparse.Namespace) -> list[str]:
    """Who takes part, as far as the command line lets them."""
    return [
        side
        for side in measure.sides
        if (side.startswith(OURS) and not options.without_us) or (side in options.peers and not side.startswith(OURS))
    ]


def in_turn(sides: list[str], rounds: int, measure: Measure, value: Any) -> dict[str, list[float]]:
    """One value a round and side, every second round in the other order."""
    values: dict[str, list[float]] = {side: [] for side in sides}
    wanted = {side for one in measure.against if one.target is not None for side in (one.ours, one.peer, one.again)}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            if wanted and side not in wanted and measure.group != "process" and number >= KNOWN_ROUNDS:
                continue
            values[side].append(value(side, number))
    return values


def settle(worker: Worker, measure: Measure) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """llama.cpp's best settings for a measure, one setting after the other, and the value of each try."""
    tried: list[dict[str, Any]] = []

    def attempt(settings: dict[str, Any]) -> float:
        worker.ask(call="configure", **settings)
        answer = worker.ask(seed=TRY_SEED, **measure.work)
        value = measure.rate(answer)
        if answer["seconds"] < 4:  # short enough to look twice
            value = max(value, measure.rate(worker.ask(seed=TRY_SEED + 1, **measure.work)))
        tried.append({**settings, measure.unit: round(value, 2)})
        return value

    best = {name: choices[0] for name, choices in measure.tries}
    highest = attempt(best)
    for name, choices in measure.tries:
        for choice in choices[1:]:
            value = attempt({**best, name: choice})
            if value > highest:
                best, highest = {**best, name: choice}, value
    worker.ask(call="configure", **best)
    return best, tried


def run_workers(group: str, names: list[str], options: argparse.Namespace, done: Any) -> None:
    """Measures whose sides live on between them."""
    measures = [BY_NAME[name] for name in names]
    context = max(one.work["length"] + one.work.get("tokens", 0) for one in measures) + 256
    path = model_path(measures[0].model, options)
    sides = list(dict.fromkeys(side for one in measures for side in chosen_sides(one, options)))
    reading = bandwidth.read_gb_per_second(options.threads) if "decode_1" in names else 0.0
    workers: dict[str, Worker] = {}
    try:
        for side in sides:
            workers[side] = Worker(side, path, options, group, context)
        if group == "avx2" and LLAMA in workers and not workers[LLAMA].facts["library"].startswith("avx2"):
            raise SideFailed(f"llama.cpp uses {workers[LLAMA].facts['library']} and not the AVX2 build")
        for measure in measures:
            started = time.monotonic()
            settings: dict[str, Any] = {}
            tried: list[dict[str, Any]] = []
            if LLAMA in workers and measure.tries and not options.quick:
                settings, tried = settle(workers[LLAMA], measure)
            for side in chosen_sides(measure, options):  # uncounted: prompts of a batch, the long context, pages
                short = {"tokens": 4} if measure.work["call"] in ("decode", "sample") else {"length": 64}
                workers[side].ask(seed=WARM_SEED, **{**measure.work, **short})

            def value(side: str, number: int, measure: Measure = measure) -> float:
                return measure.rate(workers[side].ask(seed=number, **measure.work))

            record: dict[str, Any] = {
                "values": in_turn(chosen_sides(measure, options), options.rounds, measure, value),
                "settings": settings,
                "tried": tried,
                "facts": {side: workers[side].facts for side in chosen_sides(measure, options) if workers[side].facts},
            }
            if measure.name == "decode_1":
                record["bandwidth"] = share(path, max(reading, bandwidth.read_gb_per_second(options.threads)), record)
            done(measure, path, record, started)
    finally:
        for worker in workers.values():
            worker.stop()


def share(path: Path, reading: float, record: dict[str, Any]) -> dict[str, Any]:
    """What part of the memory's speed a decode of one sequence used."""
    each = bandwidth.bytes_per_token(path)
    used = {side: round(statistics.median(v) * each / reading / 1e9, 3) for side, v in record["values"].items()}
    tell(f"memory reads {reading:.1f} GB/s, a token {each / 1e9:.3f} GB: share {used}")
    return {"read_gb_per_second": round(reading, 2), "bytes_per_token": each, "share": used}


def run_processes(names: list[str], options: argparse.Namespace, done: Any) -> None:
    """Start-up and memory: processes that do one thing."""
    bare = bare_numpy()
    for name in names:
        started, measure = time.monotonic(), BY_NAME[name]
        what = {"startup": "first"}.get(name, name)
        sides = chosen_sides(measure, options)
        if what == "first":  # one uncounted start puts the file and the libraries into the page cache
            for side in sides:
                fresh(side, what, options)

        def value(side: str, _: int, what: str = what) -> float:
            return fresh(side, what, options) - (bare if what == "memory" else 0)

        record: dict[str, Any] = {"values": in_turn(sides, options.rounds, measure, value)}
        if what == "memory":
            record["values"][FILE] = [options.path.stat().st_size / 2**20] * options.rounds
            record["bare_numpy_mib"] = round(bare, 1)
        done(measure, options.path, record, started)


def run_shared(names: list[str], options: argparse.Namespace, done: Any) -> None:
    """Requests that begin alike, every run in a new process."""
    for name in names:
        started, measure = time.monotonic(), BY_NAME[name]
        sides = chosen_sides(measure, options)
        settings: dict[str, Any] = {"slots": 16, "unified": True}
        tried: list[dict[str, Any]] = []
        found: dict[str, list[float]] = {}  # part of the prompts' positions that a cache held, a round
        program = peers.server() if SERVER in sides else Path()
        if SERVER in sides and options.settings:
            settings = json.loads(options.settings)
        elif SERVER in sides and not options.quick:
            settings, tried = server.choose(program, options.path, options.threads, TRIED, tell)

        def value(
            side: str, number: int, measure: Measure = measure, program: Path = program,
            settings: dict[str, Any] = settings, found: dict[str, list[float]] = found,
        ) -> float:  # fmt: skip
            if side == SERVER:
                answer = server.theirs(program, options.path, options.threads, SHARED, number, settings)
            else:
                how = OURS if side in (EARLIER, AGAIN) else side
                command = [sys.executable, str(SHARED_RUN), how, str(options.path), str(options.threads), str(number)]
                env = environment(side, "shared", options)
                ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=False)
                if ran.returncode:
                    raise SideFailed(f"{side} stopped with {ran.returncode}; its message is above")
                answer = json.loads(ran.stdout)
            tell(f"{measure.name} round {number + 1}: {side} {answer['seconds']:.1f} s, {answer['found']:.0%} found")
            found.setdefault(side, []).append(answer["found"])
            return measure.rate(answer)

        values = in_turn(sides, options.rounds, measure, value)
        facts = {"found": found, **({SERVER: peers.facts("server")} if SERVER in sides else {})}
        done(measure, options.path, {"values": values, "settings": settings, "tried": tried, "facts": facts}, started)
