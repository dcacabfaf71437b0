"""Programs on GSM8K: the dense hand-over beside the text it replaces, its control, and what one step gives.

All 500 dev rows, greedy. Needs the data (DENSECORE_DATA) and some two hours on two cores; goes on where it was stopped.
"""

from __future__ import annotations

import sys

from densecore.eval.__main__ import main

OUT = "results/experiments/gsm8k"
GROUPS = (
    "PlanSolve,PlanSolve:mode=token,PromptPlanSolve,PlainChainOfThought",
    "ChainOfThought,FewShot,ZeroShot",
)

if __name__ == "__main__":
    for modules in GROUPS:
        if status := main(["--set", "gsm8k", "--module", modules, "--out", OUT, *sys.argv[1:]]):
            sys.exit(status)
