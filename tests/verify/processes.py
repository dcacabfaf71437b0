"""Fresh processes for figures that only a fresh process has: peak memory, start-up, import."""

from __future__ import annotations

import subprocess
import sys
import time

PEAK = "\nimport resource as _r; print('peak', _r.getrusage(_r.RUSAGE_SELF).ru_maxrss * 1024)"


def run(code: str, *arguments: str) -> tuple[dict[str, str], float]:
    """Run code in a new interpreter; its `name value` lines, and the wall seconds of the whole process."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=600
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"the measured process failed with {done.returncode}: {done.stderr[-2000:]}")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line), seconds


def peak_bytes(code: str, *arguments: str) -> int:
    """Peak resident bytes of a new interpreter that runs the code."""
    return int(run(code + PEAK, *arguments)[0]["peak"])


def seconds_to_line(code: str, word: str, *arguments: str) -> float:
    """Seconds from starting a new interpreter to the line that begins with the word."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(word):
                seconds = time.perf_counter() - started
                child.communicate()
                return seconds
    raise RuntimeError(f"the process ended without a line {word!r}")
