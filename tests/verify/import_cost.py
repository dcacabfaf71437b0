"""`import densecore` against `import numpy`, whole processes in turn, medians."""

from __future__ import annotations

import statistics
from typing import Any

from tests.verify import processes

CAP = 0.030
ROUNDS = 25


def check() -> tuple[bool, dict[str, Any]]:
    """Pairs in turn, so that a busy moment hits both; one pair first warms the caches."""
    pairs = [(processes.run("import numpy")[1], processes.run("import densecore")[1]) for _ in range(ROUNDS + 1)][1:]
    extra = [ours - numpy for numpy, ours in pairs]
    figures = {
        "numpy_ms": round(1000 * statistics.median(numpy for numpy, _ in pairs), 1),
        "densecore_ms": round(1000 * statistics.median(ours for _, ours in pairs), 1),
        "extra_ms": round(1000 * statistics.median(extra), 1),
        "cap_ms": 1000 * CAP,
        "pairs": ROUNDS,
    }
    return statistics.median(extra) <= CAP, figures
