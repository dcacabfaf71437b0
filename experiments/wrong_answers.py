"""What the answers of the GSM8K and HotPotQA runs have in common where they are wrong: counted in their journals.

Journals hold rows of data sets and are not in the repository, so this comes after `programs_gsm8k.py` and
`programs_hotpotqa.py`, which leave them, and writes the counts alone. Needs the data (DENSECORE_DATA) and a second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from densecore import data
from densecore.eval.choice import place
from densecore.programs.task import best
from densecore.report import Example, Journal
from densecore.runs.replace import write_text

FOLDER = Path("results/experiments")
REASONED = ("PlainChainOfThought", "ChainOfThought", "PromptPlanSolve", "PlanSolve", "PlanSolve-mode=token")
READING = ("ChainOfThought", "ZeroShot", "MultiHop")


def main() -> int:
    """Count and write; what is known of runs whose journals are not here stays as it was."""
    summary = FOLDER / "wrong_answers.json"
    written: dict[str, Any] = json.loads(summary.read_text("utf-8")) if summary.exists() else {}
    written["command"] = "python experiments/wrong_answers.py"
    known = written.setdefault("gsm8k: accuracy of answers that hold a Python program, and of the others", {})
    for name, journal in journals("gsm8k", REASONED):
        written["model_hash"] = journal.header.model_hash
        known[name] = parts(journal.examples, lambda each: "```python" in each.text or "print(" in each.text, "correct")
    known = written.setdefault(
        "hotpotqa: F1 where all supporting paragraphs are among the best four, and elsewhere", {}
    )
    for name, journal in journals("hotpotqa", READING):
        rows = data.load("hotpotqa", "dev", limit=len(journal))
        complete = {row.id for row in rows if set(row.supporting) <= {text.split(" | ")[0] for text in best(row)}}
        known[name] = parts(journal.examples, lambda each, complete=complete: each.id in complete, "score")
    write_text(summary, json.dumps(written, indent=1) + "\n")
    return 0


def journals(name: str, programs: Sequence[str]) -> Iterator[tuple[str, Journal]]:
    """Those of a set's runs that are here."""
    for program in programs:
        found = place(FOLDER / name, f"{name}-dev-{program}")
        if Path(found).exists():
            yield program, Journal.read(found)


def parts(examples: Sequence[Example], chosen: Any, figure: str) -> dict[str, dict[str, float | int | None]]:
    """How many examples are chosen and how many are not, and the mean of a figure of each part."""
    split = {"these": [each for each in examples if chosen(each)], "others": [e for e in examples if not chosen(e)]}
    return {
        name: {"n": len(part), figure: round(fmean(getattr(each, figure) for each in part), 4) if part else None}
        for name, part in split.items()
    }


if __name__ == "__main__":
    sys.exit(main())
