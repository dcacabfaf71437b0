"""densecore, llama.cpp and transformers on one file, one machine, the same threads, in one run.

    python benches/compare.py                  five pairs or more of everything, for the record
    python benches/compare.py --quick          the floor in two or three minutes
    python benches/compare.py --measures decode_1 prefill_512 --rounds 9

The sides live in processes of their own and take turns, A B A B, so that a busy minute of the machine hits all of
them. A table comes first; the last line is JSON whose `ratios` compare densecore with llama.cpp, above 1 where
densecore is faster (or smaller, for memory).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.verify.record import machine, sha256, threads, versions  # noqa: E402 - the checkout is found first

WORKER = ROOT / "benches" / "sides.py"
OURS, PEER = "densecore", "llama.cpp"
TOKENS = 64
PEER_ROUNDS = 2  # of transformers, whose values lie far from both others and take most of the time
DECODES = {f"decode_{n}": {"sequences": n, "length": 128} for n in (1, 2, 4, 8, 16, 32)}
DECODES["decode_4096"] = {"sequences": 1, "length": 4096}
FULL = ["prefill_512", "prefill_4096", "decode_1", "decode_4096", "decode_8", "decode_16", "startup", "memory"]
QUICK = ["prefill_512", "decode_1", "decode_16", "startup", "memory"]
UNITS = {"prefill": "tok/s", "decode": "tok/s", "startup": "s", "memory": "MiB"}


class Worker:
    """One side in its process."""

    def __init__(self, side: str, path: Path, threads: int, context: int) -> None:
        command = [sys.executable, str(WORKER), "serve", side, str(path), str(threads), str(context)]
        self.side = side
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.side} stopped with {self.process.wait()}; its message is above")
        return json.loads(line)

    def ask(self, **request: Any) -> float:
        """Seconds of one piece of work."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def stop(self) -> None:
        """End of input ends the worker."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def fresh(side: str, what: str, path: Path, threads: int) -> float:
    """Seconds to the first id, or peak MiB, of a process that does nothing else."""
    command = [sys.executable, str(WORKER), what, side, str(path), str(threads)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline().split()
        seconds = time.perf_counter() - started
        child.communicate()
    if not line:
        raise SystemExit(f"{side} gave nothing for {what}; its message is above")
    return seconds if what == "first" else float(line[1])


def bare_numpy() -> float:
    """Peak MiB of a process that only imports NumPy."""
    code = "import numpy, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def measure(name: str, side: str, worker: Worker | None, options: argparse.Namespace, number: int) -> float:
    """One value of one measure: tokens per second, seconds or MiB."""
    if name == "startup":
        return fresh(side, "first", options.path, options.threads)
    if name == "memory":
        return fresh(side, "memory", options.path, options.threads) - options.bare
    assert worker is not None
    if name.startswith("prefill_"):
        length = int(name.split("_")[1])
        return length / worker.ask(call="prefill", length=length, seed=number)
    shape = DECODES[name]
    # The first token of each sequence comes from the prompt's logits, before the clock starts or free of a step.
    return (TOKENS - 1) * shape["sequences"] / worker.ask(call="decode", tokens=TOKENS, seed=number, **shape)


def run(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """All values: measure -> side -> one value a round."""
    needs = {name: name.startswith(("prefill", "decode")) for name in options.measures}
    longest = 4096 + 256 if any("4096" in name for name in options.measures) else 1024
    values: dict[str, dict[str, list[float]]] = {}
    for name in (n for n in options.measures if not needs[n]):  # fresh processes, while nobody else holds memory
        sides = [side for side in options.sides if side != "transformers"]  # it cannot read the file by itself
        if name == "startup":  # one uncounted start puts the file and the libraries into the page cache
            for side in sides:
                measure(name, side, None, options, 0)
        rounds = 1 if name == "memory" else options.rounds
        values[name] = {side: [] for side in sides}
        for number in range(rounds):
            for side in sides:
                values[name][side].append(measure(name, side, None, options, number))
        tell(name, values[name])
    if not any(needs.values()):
        return values
    workers = {side: Worker(side, options.path, options.threads, longest) for side in options.sides}
    for worker in workers.values():
        worker.ask(call="prefill", length=64, seed=999)
        worker.ask(call="decode", sequences=1, length=128, tokens=8, seed=999)
    for name in (n for n in options.measures if needs[n]):
        values[name] = {side: [] for side in options.sides}
        for number in range(options.rounds):
            for side, worker in workers.items():
                if side == "transformers" and number >= PEER_ROUNDS:
                    continue
                values[name][side].append(measure(name, side, worker, options, number))
        tell(name, values[name])
    for worker in workers.values():
        worker.stop()
    return values


def tell(name: str, sides: dict[str, list[float]]) -> None:
    """Progress on the error stream."""
    parts = (f"{side} {statistics.median(numbers):.2f}" for side, numbers in sides.items())
    print(f"  {name}: {', '.join(parts)}", file=sys.stderr, flush=True)


def ratios(values: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """densecore over llama.cpp, turned so that above 1 is better."""
    made = {}
    for name, sides in values.items():
        if OURS in sides and PEER in sides:
            ours, peer = (statistics.median(sides[side]) for side in (OURS, PEER))
            made[name] = round(peer / ours if name in ("startup", "memory") else ours / peer, 3)
    return made


def table(values: dict[str, dict[str, list[float]]], sides: list[str]) -> str:
    """Medians with the smallest and the largest value, a row a measure."""
    against = ratios(values)
    lines = [f"{'measure':14}{'unit':>7}" + "".join(f"{side:>28}" for side in sides) + f"{'ours : llama.cpp':>20}"]
    for name, rows in values.items():
        line = f"{name:14}{UNITS[name.split('_')[0]]:>7}"
        for side in sides:
            numbers = rows.get(side)
            if not numbers:
                line += f"{'-':>28}"
                continue
            line += f"{f'{statistics.median(numbers):.2f} ({min(numbers):.2f}-{max(numbers):.2f})':>28}"
        lines.append(line + (f"{against[name]:>20.2f}" if name in against else ""))
    return "\n".join(lines)


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct", help="catalogue name or GGUF file")
    parser.add_argument("--quick", action="store_true", help="the main measures, two rounds, two or three minutes")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parser.add_argument("--measures", nargs="+", choices=[*dict.fromkeys([*FULL, *DECODES])], metavar="measure")
    parser.add_argument("--rounds", type=int, help="values of each measure and side (5; 2 with --quick)")
    parser.add_argument("--threads", type=int, default=threads(), help="of every side")
    parser.add_argument("--peers", nargs="*", default=None, choices=[PEER, "transformers"], help="who stands beside us")
    parser.add_argument("--without-us", action="store_true", help="the peers alone, for their own figures")
    parser.add_argument("--save", action="store_true", help="also write results/bench/compare.json")
    options = parser.parse_args()
    options.measures = options.measures or (QUICK if options.quick else FULL)
    options.rounds = options.rounds or (2 if options.quick else 5)
    peers = options.peers if options.peers is not None else [PEER] + ([] if options.quick else ["transformers"])
    options.sides = ([] if options.without_us else [OURS]) + peers
    options.bare = bare_numpy()
    options.path = Path(options.model)
    if not options.path.is_file():
        from densecore import models

        options.path = Path(models.resolve(options.model).path)
    started = time.monotonic()
    values = run(options)
    if not options.json:
        print(f"{options.path.name}, {options.threads} threads, {machine()['cpu']}, {options.rounds} rounds in turn")
        print(table(values, options.sides))
    result = {
        "ratios": ratios(values),
        "medians": {n: {s: round(statistics.median(v), 3) for s, v in rows.items()} for n, rows in values.items()},
        "values": {n: {s: [round(x, 3) for x in v] for s, v in rows.items()} for n, rows in values.items()},
        "model": options.path.name,
        "sha256": sha256(options.path),
        "threads": options.threads,
        "rounds": options.rounds,
        "date": dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python", "benches/compare.py", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions("llama-cpp-python", "transformers", "torch"),
        "seconds": round(time.monotonic() - started),
    }
    if options.save:
        place = ROOT / "results" / "bench" / "compare.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
