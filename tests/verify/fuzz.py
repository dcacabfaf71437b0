"""Five minutes of every fuzz target: executions, crashes, hangs, peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.verify.record import ROOT

SECONDS = 300


def check() -> tuple[bool, dict[str, Any]]:
    """Run them one after the other; one input that crashes, hangs or takes too much memory fails the check."""
    call = [sys.executable, "tools/fuzz.py", "--seconds", str(SECONDS)]
    done = subprocess.run(call, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise RuntimeError(f"tools/fuzz.py ended with status {done.returncode}; what it wrote stands above")
    figures = json.loads(done.stdout)
    return all(each["executions"] > 0 and not each["finds"] for each in figures.values()), figures
