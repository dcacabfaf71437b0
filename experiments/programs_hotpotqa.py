"""Programs on HotPotQA: answers from the four paragraphs that BM25 finds best, at once, after reasoning, in two hops.

The first 300 dev rows with paragraphs, greedy. Needs the data (DENSECORE_DATA) and an hour or more on two cores; goes on
where it was stopped.
"""

from __future__ import annotations

import sys

from densecore.eval.__main__ import main

OUT = "results/experiments/hotpotqa"
MODULES = "ChainOfThought,ZeroShot,MultiHop"

if __name__ == "__main__":
    sys.exit(main(["--set", "hotpotqa", "--limit", "300", "--module", MODULES, "--out", OUT, *sys.argv[1:]]))
