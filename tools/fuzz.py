"""Fuzz the readers of what densecore is given: `make fuzz SECONDS=300`, or `python tools/fuzz.py gguf --seconds 60`.

Builds the targets of `fuzz/` with the coverage counters libFuzzer needs, which the stable compiler can make, and runs
them one after the other, each for so many seconds of processor time. An input that crashes, hangs or takes too much
memory is kept in `fuzz/artifacts/TARGET` and the run goes on. Prints one JSON object; the exit status says whether
anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FUZZ = ROOT / "fuzz"
TARGETS = ("gguf", "safetensors", "tokenizer_json", "template")
HANG = 20  # seconds one input may take; the slowest of the engine's own bounds is a tenth of it
MEMORY = 1024  # MiB of a whole process, libFuzzer's own tables included
LENGTH = 16_384  # bytes of an input: every structure fits, and a round stays short
COVERAGE = (
    "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 "
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table "
    "-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks"
)


def host() -> str:
    """The triple of this machine: named, so that the flags reach the targets and not the build scripts."""
    told = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return re.findall(r"host: (\S+)", told)[0]


def build(targets: list[str]) -> Path:
    """Compile the targets; the folder they are in."""
    triple = host()
    folder = Path(os.environ.get("CARGO_TARGET_DIR", FUZZ / "target"))
    bins = [word for target in targets for word in ("--bin", target)]
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--target", triple, *bins],
        check=True, cwd=FUZZ, env={**os.environ, "RUSTFLAGS": COVERAGE, "CARGO_TARGET_DIR": str(folder)},
    )  # fmt: skip
    return folder / triple / "release"


def spent(pid: int) -> float:
    """Processor seconds of a process; its parts end up in `os.times` only when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command(program: Path, target: str) -> list[str]:
    """libFuzzer's command line: new inputs go into the first folder."""
    corpus, artifacts, seeds = FUZZ / "corpus" / target, FUZZ / "artifacts" / target, FUZZ / "seeds" / target
    for folder in (corpus, artifacts, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    words = FUZZ / "words" / f"{target}.dict"
    return [
        str(program), str(corpus), str(seeds), f"-artifact_prefix={artifacts}/", f"-timeout={HANG}",
        f"-rss_limit_mb={MEMORY}", f"-max_len={LENGTH}", "-print_final_stats=1", "-reload=0",
        *([f"-dict={words}"] if words.exists() else []),
    ]  # fmt: skip


def once(call: list[str], log: Path, seconds: float, started: Callable[[int], None]) -> tuple[int, float, str]:
    """Run until so much processor time is used or the process ends by itself; status, time, what it said."""
    with log.open("wb") as stream:
        process = subprocess.Popen(call, cwd=FUZZ, stdout=stream, stderr=subprocess.STDOUT)
        started(process.pid)
        used = 0.0
        while process.poll() is None:
            used = max(used, spent(process.pid))
            if used >= seconds:
                # It writes its statistics and leaves. Not SIGINT, which a program started in the background ignores.
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.5)
        status = process.wait()
    return status, used, log.read_text(encoding="utf-8", errors="replace")


def number(pattern: str, text: str) -> int:
    """The last number a pattern finds, 0 without one."""
    told = re.findall(pattern, text)
    return int(told[-1]) if told else 0


def genuine(program: Path, artifact: Path) -> bool:
    """Whether an input alone takes too long: a process that was paused for a while looks as if it hung."""
    if not artifact.name.startswith(("timeout-", "slow-unit-")):
        return True
    call = [str(program), str(artifact), f"-timeout={HANG}", f"-rss_limit_mb={MEMORY}"]
    return subprocess.run(call, check=False, cwd=FUZZ, capture_output=True, timeout=4 * HANG).returncode != 0


def fuzz(program: Path, target: str, seconds: float, started: Callable[[int], None]) -> dict[str, Any]:
    """One target for so many seconds of processor time, begun again after every find."""
    folder = FUZZ / "artifacts" / target
    call = command(program, target)
    before = set(folder.iterdir())
    total: dict[str, Any] = {"executions": 0, "seconds": 0.0, "peak_mib": 0, "covered": 0, "finds": []}
    while total["seconds"] < seconds and len(total["finds"]) < 10:
        status, used, said = once(call, folder.parent / f"{target}.log", seconds - total["seconds"], started)
        total["executions"] += number(r"number_of_executed_units:\s+(\d+)", said) or number(r"#(\d+)\t", said)
        total["seconds"] += used
        total["peak_mib"] = max(total["peak_mib"], number(r"peak_rss_mb:\s+(\d+)", said))
        total["covered"] = max(total["covered"], number(r"cov: (\d+)", said))
        new = [path for path in sorted(folder.iterdir()) if path not in before]
        before |= set(new)
        total["finds"] += [path.name for path in new if genuine(program, path)]
        if status != 0 and not new and used < 1:
            raise SystemExit(f"{target} ended by itself with status {status}:\n{said[-2000:]}")
    total["crashes"] = sum(not name.startswith(("timeout-", "slow-unit-")) for name in total["finds"])
    total["hangs"] = len(total["finds"]) - total["crashes"]
    return {**total, "seconds": round(total["seconds"])}


def main() -> int:
    """Build, run, tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all without one")
    parser.add_argument("--seconds", type=float, default=60, help="processor seconds for each target")
    parser.add_argument("--pid", type=Path, help="a file that holds the number of the process that runs")
    parser.add_argument("--programs", type=Path, help="a folder of targets that are built, to be used as they are")
    options = parser.parse_args()
    targets = options.targets or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"no target named {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")

    def started(pid: int) -> None:
        if options.pid:
            options.pid.write_text(f"{pid}\n", encoding="ascii")

    programs = options.programs or build(targets)
    results = {}
    for target in targets:
        results[target] = fuzz(programs / target, target, options.seconds, started)
        print(f"{target}: {json.dumps(results[target])}", file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))
    return int(any(result["finds"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
