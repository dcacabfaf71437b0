"""Optimisers on GSM8K and HotPotQA: what each makes of a program, judged where it was not chosen.

Demonstrations come from training rows, candidates are chosen on SVAMP or on held-back HotPotQA rows; then what scored
highest there, of each program, answers the dev rows beside the programs that were not optimised, unless it is one of them:
where no candidate was better, the program stayed as it was. Needs the data (DENSECORE_DATA), the extra `optimize` and some
hours on two cores; goes on where it was stopped.

    python experiments/optimised_programs.py [gsm8k | hotpotqa ...] [--only PROGRAM] [--no-dev]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from densecore import data
from densecore.eval.__main__ import main as evaluate
from densecore.optimize.__main__ import main as optimise
from densecore.report.record import machine
from densecore.runs.replace import write_text

FOLDER = Path("results/experiments/optimisers")
SELECT_ROWS = 50
DEV_ROWS = {"gsm8k": 500, "hotpotqa": 300}
EVALUATIONS = 5
FEW = ("--option", "num_candidates=4")
"""MIPROv2 proposes as many instructions and sets of demonstrations."""
JOBS: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "gsm8k": (
        ("ChainOfThought", "bootstrap", ()),
        ("ChainOfThought", "random", ()),
        ("ChainOfThought", "mipro", FEW),
        ("PlainChainOfThought", "random", ("--select-rows", "100", "--evaluations", "6")),
        # Nothing it says can be a demonstration, so its words alone are looked for: three in each of two rounds.
        ("PlanSolve", "copro", ("--evaluations", "6")),
    ),
    "hotpotqa": (
        ("ZeroShot", "random", ()),
        ("ChainOfThought", "random", ()),
        # A demonstration has four paragraphs: two of them are some 1,500 tokens that every question reads.
        ("ZeroShot", "mipro", (*FEW, "--option", "max_bootstrapped_demos=2", "--option", "max_labeled_demos=2")),
    ),
}
"""Set to programs, optimisers and what else the command is given."""


def main() -> int:
    """Compile, write down what came of it, judge the best on dev rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="set", help=f"of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--only", metavar="PROGRAM", help="of the programs this one; what is known of the others stays")
    parser.add_argument("--no-dev", action="store_true", help="choose only")
    options = parser.parse_args()
    for name in options.sets or JOBS:
        compiled = []
        for program, optimiser, more in JOBS[name]:
            if options.only not in (None, program):
                continue
            folder = FOLDER / f"{name}-{program}-{optimiser}"
            command = ["--set", name, "--program", program, "--optimiser", optimiser, "--out", str(folder)]
            command += ["--select-rows", str(SELECT_ROWS), "--evaluations", str(EVALUATIONS), "--threads", "64"]
            if status := optimise([*command, *more]):
                return status
            compiled.append(folder / "program.json")
            write(name, compiled)
        if not options.no_dev:
            for program, best in better(compiled).items():
                command = ["--set", name, "--limit", str(DEV_ROWS[name]), "--module", program, "--load", str(best)]
                command += ["--run", f"{name}-dev-{program}-optimised", "--out", f"results/experiments/{name}"]
                if status := evaluate(command):
                    return status
    return 0


def better(compiled: list[Path]) -> dict[str, Path]:
    """Of each program the compile that scored highest where candidates are chosen, if that is more than at its start."""
    records = {place: json.loads(place.read_text("utf-8")) for place in compiled}
    found: dict[str, Path] = {}
    for place in sorted(compiled, key=lambda place: -records[place]["provenance"]["score"]):
        if records[place]["provenance"]["score"] > records[place]["provenance"]["start_score"]:
            found.setdefault(records[place]["program"], place)
    return found


def write(name: str, compiled: list[Path]) -> None:
    """The summary of a set's compiles: scores and what was chosen, rows of data sets by their ids alone.

    Compiles that are not here, but in the summary as it was, stay there.
    """
    known = {row.question: row.id for row in data.load(name, "train")}
    summary, runs = FOLDER / f"{name}.json", []
    for place in compiled:
        record = json.loads(place.read_text("utf-8"))
        chosen = {
            predictor: {
                "instructions": state["signature"]["instructions"],
                "demonstrations": [demonstration(demo, known) for demo in state["demos"]],
            }
            for predictor, state in record["state"].items()
        }
        runs.append({"program": record["program"], "chosen": chosen, **record["provenance"]})
    before = json.loads(summary.read_text("utf-8"))["runs"] if summary.exists() else []
    made = {(run["program"], run["optimiser"]) for run in runs}
    runs = [run for run in before if (run["program"], run["optimiser"]) not in made] + [
        {**run, "machine": machine()} for run in runs
    ]
    written = {"command": "python experiments/optimised_programs.py", "set": name, "runs": runs}
    write_text(summary, json.dumps(written, indent=1, ensure_ascii=False) + "\n")


def demonstration(demo: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """Which row it is, whether the program worked it out itself, and a hash of its text."""
    text = json.dumps(demo, sort_keys=True, ensure_ascii=False)
    return {
        "row": known.get(demo.get("question", "")),
        "by_the_program": bool(demo.get("augmented")),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


if __name__ == "__main__":
    sys.exit(main())
