"""densecore beside llama.cpp, llama-server and transformers: the same models, machine and threads, in one run.

    python benches/compare.py --save --resume          everything, five rounds, for the record; long, see --groups
    python benches/compare.py --quick                  the floor in two or three minutes
    python benches/compare.py --groups batch shared    parts of it; `--groups` alone lists them
    python benches/compare.py --measures decode_1 prefill_512 --rounds 9
    python benches/compare.py --against WHEEL --save   an earlier build of ours beside this one, and nobody else

The sides live in processes of their own and take turns, A B, B A, so that a busy minute of the machine hits all of
them. Before a measure llama.cpp's settings are tried, and its best are used. A table comes first; the last line is JSON
whose `ratios` are above 1 where densecore is faster (or smaller, for memory). With `--save` each measure is written to
`results/bench/compare.json` as soon as it is done, beside those already there of the same engine on the same machine;
`--resume` skips them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benches import builds, figures, measures, rounds  # noqa: E402 - the checkout is found first
from benches.measures import AGAINST, BY_NAME, FULL, GROUPS, LLAMA, PACKED, QUICK, SERVER, TORCH, Measure  # noqa: E402
from tests.verify.record import machine, threads, versions  # noqa: E402

PLACE = ROOT / "results" / "bench" / "compare.json"
AGAINST_PLACE = PLACE.with_name("against.json")


@functools.cache
def origin() -> dict[str, str]:
    """The commit of this checkout and the digest of the engine that Python loads from it."""

    def git(*arguments: str) -> str:
        ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return ran.stdout.strip()

    import densecore._core as core

    changed = " with changes" if git("status", "--porcelain", "crates", "python") else ""
    commit = (git("rev-parse", "--short=12", "HEAD") or "unknown") + changed
    return {"commit": commit, "engine": builds.digest(Path(str(core.__file__)))}


def command(arguments: list[str]) -> str:
    """The command of a record; of a place on this machine the name alone."""
    told = [Path(each).name if Path(each).is_absolute() else each for each in arguments]
    return " ".join(["python", "benches/compare.py", *told])


def beside(options: argparse.Namespace) -> dict[str, Any]:
    """What a record says about the other build, if one was measured."""
    return {"earlier": options.build.facts()} if options.build else {}


def earlier(place: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Records of a results file that the same engine made on the same machine with as many threads."""
    try:
        held = json.loads(place.read_text(encoding="utf-8")).get("measures", {})
    except (OSError, ValueError):
        return {}
    same = {**machine(), "threads": options.threads, "engine": origin()["engine"]}
    return {
        name: record
        for name, record in held.items()
        if name in BY_NAME
        and {**record["machine"], "threads": record["threads"], "engine": record["engine"]} == same
        and record.get("earlier") == beside(options).get("earlier")
    }


def complete(name: str, measured: dict[str, dict[str, Any]], options: argparse.Namespace) -> bool:
    """Whether a record has the rounds, the sides, the tries and the model that are asked for now."""
    record, measure = measured.get(name), BY_NAME[name]
    if record is None or (measure.model == "main" and record["model"] != options.path.name):
        return False
    sides = rounds.chosen_sides(measure, options)
    tried = not measure.tries or bool(record["tried"]) or options.quick or LLAMA not in sides
    return record["rounds"] >= options.rounds and tried and set(sides) <= set(record["values"])


def result(measured: dict[str, dict[str, Any]], missing: dict[str, str]) -> dict[str, Any]:
    """What is printed and kept: ratios first, then what they are made of."""
    measured = {name: measured[name] for name in BY_NAME if name in measured}
    short = [row["key"] for record in measured.values() for row in record["comparisons"] if row["verdict"] == "short"]
    return {
        "ratios": figures.ratios(measured),
        "short": short,
        "medians": {n: {s: v[0] for s, v in record["medians"].items()} for n, record in measured.items()},
        "missing": missing,
        "commands": sorted({record["command"] for record in measured.values()}),
        "seconds": sum(record["seconds"] for record in measured.values()),
        "measures": measured,
    }


def write(place: Path, made: dict[str, Any]) -> None:
    """Write one result whole: a break leaves the old file or none."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    part.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(place)


def read_options() -> argparse.Namespace:
    """The command line, with what follows from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct", help="catalogue name or GGUF file")
    parser.add_argument("--quick", action="store_true", help="the main measures, two rounds, llama.cpp as it comes")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parser.add_argument("--measures", nargs="+", choices=[*BY_NAME], metavar="measure", help=", ".join(BY_NAME))
    parser.add_argument("--groups", nargs="*", choices=GROUPS, metavar="group", help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, help="values of each measure and side (5; 2 with --quick)")
    parser.add_argument("--threads", type=int, default=threads(), help="of every side")
    parser.add_argument("--peers", nargs="*", choices=[LLAMA, SERVER, TORCH, PACKED], help="who stands beside us")
    parser.add_argument("--without-us", action="store_true", help="the peers alone, for their own figures")
    parser.add_argument("--settings", help='of llama-server, not tried but given: \'{"slots": 32, "unified": false}\'')
    parser.add_argument(
        "--against",
        type=Path,
        metavar="BUILD",
        help="an earlier build of ours in everybody's place: a wheel, or a folder",
    )
    parser.add_argument(
        "--save", nargs="?", type=Path, const=Path(), help=f"write each measure ({PLACE.name}, {AGAINST_PLACE.name})"
    )
    parser.add_argument("--resume", action="store_true", help="skip what the file of --save holds already")
    options = parser.parse_args()
    if options.groups == []:
        for group in GROUPS:
            print(f"{group}: {', '.join(name for name in FULL if BY_NAME[name].group == group)}")
        raise SystemExit
    if options.groups and not options.measures:
        options.measures = [name for name in FULL if BY_NAME[name].group in options.groups]
    options.measures = options.measures or (AGAINST if options.against else QUICK if options.quick else FULL)
    options.rounds = options.rounds or (2 if options.quick else 5)
    if options.against and (options.peers or options.without_us):
        parser.error("--against measures two builds of ours and nobody else; leave out --peers and --without-us")
    if options.peers is None:
        options.peers = [] if options.against else [LLAMA] if options.quick else [LLAMA, SERVER, TORCH, PACKED]
    usual = AGAINST_PLACE if options.against else PLACE
    options.save = usual if options.save == Path() else options.save
    options.place = options.save or usual
    options.path, options.build = rounds.catalogue(options.model), None
    return options


def main() -> int:
    """Read the options; measure beside the peers, or beside another build while it lies unpacked."""
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exit, so that workers and servers end with us
    if not options.against:
        return run(options)
    measures.against_a_build()
    try:
        with builds.opened(options.against) as options.build:
            return run(options)
    except builds.BuildUnusable as error:
        raise SystemExit(f"--against: {error}") from None


def run(options: argparse.Namespace) -> int:
    """Measure group by group and print; 1 where something is missing."""
    measured = earlier(options.place, options) if options.save or options.resume else {}
    names = [name for name in options.measures if not (options.resume and complete(name, measured, options))]
    missing: dict[str, str] = {}

    def done(measure: Measure, path: Path, record: dict[str, Any], started: float) -> None:
        measured[measure.name] = {
            "comparisons": figures.compare(measure.name, record["values"]),
            "unit": measure.unit,
            "medians": figures.medians(record["values"]),
            "rounds": max(len(values) for values in record["values"].values()),
            "seeds": list(range(options.rounds)),
            **record,
            "values": {side: [round(v, 4) for v in values] for side, values in record["values"].items()},
            "model": path.name,
            "sha256": rounds.content(path),
            **origin(),
            **beside(options),
            "threads": options.threads,
            "machine": machine(),
            "versions": versions("llama-cpp-python", "transformers", "torch", "gguf"),
            "date": dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "command": command(sys.argv[1:]),
            "seconds": round(time.monotonic() - started),
        }
        rounds.tell(
            f"{measure.name}: " + ", ".join(f"{s} {v[0]:.2f}" for s, v in measured[measure.name]["medians"].items())
        )
        if options.save:
            write(options.place, result(measured, missing))

    for group in GROUPS:
        wanted = [name for name in names if BY_NAME[name].group == group]
        if not wanted:
            continue
        try:
            if group == "process":
                rounds.run_processes(wanted, options, done)
            elif group == "shared":
                rounds.run_shared(wanted, options, done)
            else:
                rounds.run_workers(group, wanted, options, done)
        except (
            Exception
        ) as error:  # a peer that is missing, a side that stopped: the other groups can still be measured
            missing[group] = f"{type(error).__name__}: {error}"
            rounds.tell(f"{group} left out: {error}")
    shown = measured if options.resume else {name: measured[name] for name in options.measures if name in measured}
    if not options.json:
        print(f"{options.path.name}, {options.threads} threads, {machine()['cpu']}, rounds in turn")
        print(figures.table(shown))
    print(json.dumps(result(shown, missing)), flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
