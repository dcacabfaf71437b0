"""From journals to one row a run: accuracy with its interval, and what a question cost on average."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densecore.errors import DataError, StorageError
from densecore.metrics import interval, paired_bootstrap
from densecore.report.compare import Comparison
from densecore.report.journal import Journal
from densecore.report.record import ENGINE, EXACT, Example
from densecore.runs.replace import write_text

if TYPE_CHECKING:
    from densecore.report.prices import Prices

FORMAT = 1
UNCLASSIFIED = "other"
"""The class of a wrong answer that nobody classified."""
RAISED = "error"
"""The class of an example that ended in an error."""
_DIGITS = 6
_NAMED = {"rows": ("run",), "comparisons": ("first", "second")}
"""The lists of a summary, and what each item of theirs is known by."""


@dataclass(frozen=True)
class Row:
    """One run. Counts and seconds are means over its questions."""

    run: str
    set: str
    split: str
    program: str
    n: int
    correct: int
    accuracy: float
    """0 to 1."""
    interval: tuple[float, float]
    """Of the accuracy: Wilson, 95%."""
    metric: str
    score: float
    """0 to 1, in ``metric``; the accuracy where that is exact match."""
    score_interval: tuple[float, float]
    """Of the score: 95% by bootstrap; the accuracy's where they are the same."""
    emitted_tokens: float
    latent_steps: float
    prompt_tokens: float
    positions: float
    cached_positions: float
    seconds: float
    """From a question to its answer."""
    machine_seconds: float
    """Of the machine: time in which several questions were in work is shared by them."""
    errors: int
    failures: dict[str, int]
    """Wrong answers by class, most frequent first."""
    command: str
    seed: int
    model: str
    model_hash: str
    quantisation: str
    started: str
    machine: dict[str, Any]
    versions: dict[str, str]
    answered_by: str = ENGINE
    settings: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    """Means of the examples' other scores."""


def failure(example: Example) -> str | None:
    """The class of an example's failure; nothing of a correct answer.

    >>> failure(Example(0, "a", "1 + 1?", "2", "3", "3", correct=False, failure="arithmetic"))
    'arithmetic'
    >>> failure(Example(0, "a", "1 + 1?", "2", "3", "3", correct=False))
    'other'
    """
    if example.correct:
        return None
    if example.error is not None:
        return RAISED
    return example.failure or UNCLASSIFIED


def row(journal: Journal) -> Row:
    """A run in numbers.

    Raises:
        DataError: The journal holds no example.
    """
    header, examples = journal.header, journal.examples
    n = len(examples)
    if not n:
        raise DataError(f"{journal.path} holds no example yet: let the run answer one first")
    correct = sum(example.correct for example in examples)
    accuracy, bounds = correct / n, interval(correct, n)
    score, score_bounds = accuracy, bounds
    if header.metric != EXACT:
        mean = paired_bootstrap([example.score for example in examples], [0.0] * n)
        score, score_bounds = mean.difference, (mean.low, mean.high)
    classes = Counter(found for found in map(failure, examples) if found is not None)
    return Row(
        run=header.run,
        set=header.set,
        split=header.split,
        program=header.program,
        n=n,
        correct=correct,
        accuracy=accuracy,
        interval=bounds,
        metric=header.metric,
        score=score,
        score_interval=score_bounds,
        emitted_tokens=_mean([example.emitted_tokens for example in examples]),
        latent_steps=_mean([example.latent_steps for example in examples]),
        prompt_tokens=_mean([example.prompt_tokens for example in examples]),
        positions=_mean([example.positions for example in examples]),
        cached_positions=_mean([example.cached_positions for example in examples]),
        seconds=_mean([example.seconds for example in examples]),
        machine_seconds=_busy(examples) / n,
        errors=sum(example.error is not None for example in examples),
        failures=dict(sorted(classes.items(), key=lambda item: (-item[1], item[0]))),
        command=header.command,
        seed=header.seed,
        model=header.model,
        model_hash=header.model_hash,
        quantisation=header.quantisation,
        answered_by=header.answered_by,
        started=header.started,
        machine=header.machine,
        versions=header.versions,
        settings=header.settings,
        scores=_other_scores(examples),
    )


def rows(journals: Iterable[Journal]) -> list[Row]:
    """A row a journal, in their order.

    Raises:
        DataError: Two runs have one name, or a journal holds no example.
    """
    found = [row(journal) for journal in journals]
    twice = [name for name, times in Counter(each.run for each in found).items() if times > 1]
    if twice:
        raise DataError(f"two journals are of a run called {twice[0]!r}: give runs that are shown together two names")
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _other_scores(examples: Sequence[Example]) -> dict[str, float]:
    names = dict.fromkeys(name for example in examples for name in example.scores)
    return {name: _mean([each.scores[name] for each in examples if name in each.scores]) for name in names}


def _busy(examples: Sequence[Example]) -> float:
    """Seconds in which at least one question was in work: neither pauses nor company count."""
    if not all(example.ended for example in examples):
        return sum(example.seconds for example in examples)
    total, until = 0.0, float("-inf")
    for begin, end in sorted((example.ended - example.seconds, example.ended) for example in examples):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def document(
    journals: Sequence[Journal], prices: Prices | None = None, comparisons: Sequence[Comparison] = ()
) -> dict[str, Any]:
    """The summary as JSON holds it; with ``prices``, what each run cost and how far it is from the aim."""
    from densecore.report import prices as money

    listed = []
    for found in rows(journals):
        record = asdict(found)
        if prices is not None:
            record["usd"] = prices.cost(found)
            record["aims"] = [aim.record() for aim in money.aims(found, prices)]
        listed.append(_rounded(record))
    last = listed[-1] if listed else {}
    shared = ("command", "seed", "model", "model_hash", "quantisation", "machine", "versions", "started")
    facts = {name: last[name] for name in shared if name in last}
    compared = _rounded([each.record() for each in comparisons])
    return {"format": FORMAT, **facts, "rows": listed, "comparisons": compared}


def write(
    path: str | os.PathLike[str],
    journals: Sequence[Journal],
    *,
    keep: bool = False,
    prices: Prices | None = None,
    comparisons: Sequence[Comparison] = (),
) -> dict[str, Any]:
    """Write the summary as JSON, whole or not at all; gives back what was written.

    ``keep`` leaves what the file holds of other runs where it is: rows, and comparisons of other pairs, unless one of a pair
    is another run now, or has more answers.

    Raises:
        DataError: Journals that make no summary, or a file to keep rows of that is none.
        StorageError: The file cannot be read or written.
    """
    place, made = Path(path), document(journals, prices, comparisons)
    if keep and place.exists():
        held = _held(place)
        before = {row["run"]: (row.get("started"), row.get("n")) for row in held["rows"]}
        changed = {row["run"] for row in made["rows"]} - {
            row["run"] for row in made["rows"] if before.get(row["run"]) == (row["started"], row["n"])
        }
        held["comparisons"] = [each for each in held["comparisons"] if not {each["first"], each["second"]} & changed]
        for name, listed in held.items():
            made[name] = _merged(listed, made[name], _NAMED[name])
    write_text(place, json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    return made


def _merged(held: list[dict[str, Any]], ours: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """What is held, ours in the place of those of the same name, and ours that are new behind them."""
    found = {tuple(each[name] for name in names): each for each in held}
    found |= {tuple(each[name] for name in names): each for each in ours}
    return list(found.values())


def _held(place: Path) -> dict[str, list[dict[str, Any]]]:
    """The lists of the summary that is there, each item with the names it is known by."""
    try:
        document = json.loads(place.read_bytes())
        found = {"rows": document["rows"], "comparisons": document.get("comparisons", [])}
        whole = all(
            isinstance(listed, list) and all(isinstance(each[key], str) for each in listed for key in _NAMED[name])
            for name, listed in found.items()
        )
    except OSError as error:
        raise StorageError(f"cannot read the summary {place}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{place} is no summary ({error!r}): choose another name, or do not keep its rows") from error
    if not whole:
        raise DataError(f"{place} is no summary (its rows have no run): choose another name, or do not keep its rows")
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
