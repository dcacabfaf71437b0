"""What vectors cost on their way in and out, beside an earlier build: `python -m benches.exchange [--against FOLDER] [--save]`.

FOLDER holds the other build's package, as a directory `densecore`. Both sides take turns, each in a process of its own;
figures are medians in microseconds, printed as JSON.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benches.compare import ROOT, write
from tests.verify.record import machine

ROWS = 512
REPEATS = 200
ROUNDS = 5


def measure(name: str) -> dict[str, float]:
    """Microseconds of each step, with the build that is imported here."""
    import numpy as np
    import torch

    import densecore
    from densecore import Hidden, Prompt

    model = densecore.Model.load(name)
    array = np.random.default_rng(0).standard_normal((ROWS, model.config.width)).astype(np.float32)
    tensor = torch.from_numpy(array)
    hidden = Hidden.wrap(array, like=model)
    half = hidden.to("bfloat16")
    steps: dict[str, Callable[[], Any]] = {
        "wrap_numpy": lambda: Hidden.wrap(array, like=model),
        "wrap_torch": lambda: Hidden.wrap(tensor, like=model),
        "to_numpy": lambda: np.asarray(hidden),
        "to_torch": lambda: torch.from_dlpack(hidden),
        "round_trip": lambda: Hidden.wrap(torch.from_dlpack(hidden), like=model),
        # Checks the vectors, takes them into a call, and gives them back: no layer is computed.
        "through_a_call": lambda: model.embed(Prompt(hidden)),
        "through_a_call_bfloat16": lambda: model.embed(Prompt(half)),
        "to_bfloat16": lambda: hidden.to("bfloat16"),
    }
    found = {}
    for step, act in steps.items():
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            act()
            times.append(time.perf_counter() - started)
        found[step] = statistics.median(times) * 1e6
    return found


def side(name: str, folder: str | None) -> dict[str, float]:
    """The same in a fresh process, with another build if one is named."""
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "benches.exchange", "--alone", "--model", name]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True, timeout=600
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Both sides in turn, or one alone for the parent process."""
    parser = argparse.ArgumentParser(prog="python -m benches.exchange", description=__doc__)
    parser.add_argument("--against", metavar="FOLDER", help="the other build's packages")
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct", help="gives the width and the fingerprint")
    parser.add_argument("--save", action="store_true", help="write results/bench/exchange.json")
    parser.add_argument("--alone", action="store_true", help="measure here, once")
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options.model)))
        return
    sides = {"now": None, **({"before": options.against} if options.against else {})}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, folder in sides.items():
            rounds[name].append(side(options.model, folder))
    figures = {
        name: {step: round(statistics.median(one[step] for one in found), 1) for step in found[0]}
        for name, found in rounds.items()
    }
    made = {"rows": ROWS, "model": options.model, "rounds": ROUNDS, "microseconds": figures}
    print(json.dumps(made, indent=1))
    if options.save:
        when = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        against = " --against d5f3af9" if options.against else ""
        told = {"command": f"python -m benches.exchange{against} --save", "date": when, "machine": machine(), **made}
        write(ROOT / "results" / "bench" / "exchange.json", told)


if __name__ == "__main__":
    main()
