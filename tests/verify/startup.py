"""From starting a process to the first id of a 16-token prompt, the file in the page cache and not hashed again."""

from __future__ import annotations

import statistics
from typing import Any

from tests.golden.fixtures import real_path
from tests.verify import processes

NAME = "qwen2.5-coder-1.5b-instruct"
MODELS = (NAME,)
CAP = 2.0
ROUNDS = 5
CODE = """
import sys, densecore
model = densecore.Model.load(sys.argv[1])
ids = model.tokenize("Natalia sold clips to 48 of her friends in April, and then she sold half as many")[:16]
assert len(ids) == 16
print("id", model.generate(densecore.Ids(ids), max_tokens=1, ignore_eos=True).ids[0], flush=True)
"""


def check() -> tuple[bool, dict[str, Any]]:
    """By name, as a user would, and by path; the first run only warms the page cache."""
    path = real_path(NAME)
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    by_path = [processes.seconds_to_line(CODE, "id", str(path)) for _ in range(ROUNDS + 1)][1:]
    by_name = [processes.seconds_to_line(CODE, "id", NAME) for _ in range(ROUNDS)]
    figures = {
        "seconds_by_path": [round(value, 2) for value in by_path],
        "seconds_by_name": [round(value, 2) for value in by_name],
        "median_by_path": round(statistics.median(by_path), 2),
        "median_by_name": round(statistics.median(by_name), 2),
        "cap": CAP,
    }
    return max(figures["median_by_path"], figures["median_by_name"]) <= CAP, figures
