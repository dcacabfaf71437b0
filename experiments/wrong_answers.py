"""What the answers of the GSM8K and HotPotQA runs have in common where they are wrong: counted in their journals.

Journals hold rows of data sets and are not in the repository, so this comes after `programs_gsm8k.py` and
`programs_hotpotqa.py`, which leave them, and writes the counts alone. Needs the data (DENSECORE_DATA) and a second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from densecore import data
from densecore.eval.choice import place
from densecore.programs.task import best
from densecore.report import Example, Journal
from densecore.report.summary import replace_text

FOLDER = Path("results/experiments")
REASONED = ("PlainChainOfThought", "ChainOfThought", "PromptPlanSolve", "PlanSolve", "PlanSolve-mode=token")
READING = ("ChainOfThought", "ZeroShot", "MultiHop")


def main() -> int:
    """Count and write."""
    journals = {name: Journal.read(place(FOLDER / "gsm8k", f"gsm8k-dev-{name}")) for name in REASONED}
    reading = {name: Journal.read(place(FOLDER / "hotpotqa", f"hotpotqa-dev-{name}")) for name in READING}
    rows = data.load("hotpotqa", "dev", limit=max(map(len, reading.values())))
    complete = {row.id for row in rows if set(row.supporting) <= {text.split(" | ")[0] for text in best(row)}}
    written: dict[str, Any] = {
        "command": "python experiments/wrong_answers.py",
        "model_hash": journals["PlanSolve"].header.model_hash,
        "gsm8k: accuracy of answers that hold a Python program, and of the others": {
            name: parts(journal.examples, lambda each: "```python" in each.text or "print(" in each.text, "correct")
            for name, journal in journals.items()
        },
        "hotpotqa: F1 where all supporting paragraphs are among the best four, and elsewhere": {
            name: parts(journal.examples, lambda each: each.id in complete, "score")
            for name, journal in reading.items()
        },
    }
    replace_text(FOLDER / "wrong_answers.json", json.dumps(written, indent=1) + "\n")
    return 0


def parts(examples: Sequence[Example], chosen: Any, figure: str) -> dict[str, dict[str, float | int | None]]:
    """How many examples are chosen and how many are not, and the mean of a figure of each part."""
    split = {"these": [each for each in examples if chosen(each)], "others": [e for e in examples if not chosen(e)]}
    return {
        name: {"n": len(part), figure: round(fmean(getattr(each, figure) for each in part), 4) if part else None}
        for name, part in split.items()
    }


if __name__ == "__main__":
    sys.exit(main())
