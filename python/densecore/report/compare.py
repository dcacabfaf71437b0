"""Two runs over the same questions: is one better, by how much, and where."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from densecore.errors import DataError
from densecore.metrics import mcnemar, paired_bootstrap
from densecore.report.journal import Journal
from densecore.report.record import EXACT, Example

SEED = 0
"""Of the bootstrap, so that a comparison gives the same interval each time."""


@dataclass(frozen=True)
class Change:
    """A question that one run answered correctly and the other did not, or one better than the other."""

    first: Example
    second: Example

    @property
    def gained(self) -> bool:
        """Whether the first run did better."""
        return (self.first.correct, self.first.score) > (self.second.correct, self.second.score)


@dataclass(frozen=True)
class Comparison:
    """The first run less the second, over the questions that both have answered."""

    first: str
    second: str
    n: int
    only_first: int
    """Questions only the first run has answered; they are left out."""
    only_second: int
    accuracy: tuple[float, float]
    """Of either run, over the ``n`` questions."""
    difference: float
    """Of the accuracies, -1 to 1."""
    interval: tuple[float, float]
    """95%, bootstrap over pairs."""
    p: float
    """McNemar's exact test, two-sided: how often equally good runs would differ as much."""
    won: int
    """Questions only the first run answered correctly."""
    lost: int
    """Questions only the second run answered correctly."""
    metric: str
    score_difference: float
    """Of the mean scores in ``metric``; that of the accuracies where it is exact match."""
    score_interval: tuple[float, float]
    changes: tuple[Change, ...]
    """Answers that changed for better or worse, in the order of the set."""

    @property
    def significant(self) -> bool:
        """Whether the 95% interval of the scores' difference leaves out zero."""
        low, high = self.score_interval
        return low > 0.0 or high < 0.0

    def sentence(self) -> str:
        """The finding in one line."""
        low, high = self.score_interval
        measure = "accuracy" if self.metric == EXACT else f"mean {self.metric}"
        exact = "" if self.metric == EXACT else f" of {EXACT}"
        verdict = "a difference" if self.significant else "no difference that these questions show"
        alone = [(self.only_first, self.first), (self.only_second, self.second)]
        left_out = "".join(f"; {count} that only {run} has answered left out" for count, run in alone if count)
        return (
            f"{self.first} against {self.second}: {100 * self.score_difference:+.1f} points of {measure} "
            f"({100 * low:+.1f} to {100 * high:+.1f}), {self.won} won and {self.lost} lost of {self.n}, "
            f"McNemar p{exact} = {self.p:.3g}: {verdict}{left_out}"
        )

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON, questions by their ids alone."""
        facts: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        better: dict[str, list[str]] = {self.first: [], self.second: []}
        for change in self.changes:
            better[self.first if change.gained else self.second].append(change.first.id)
        return {**facts, "changes": better}


def compare(first: Journal, second: Journal, seed: int = SEED) -> Comparison:
    """Pair two runs by the ids of their examples.

    Raises:
        DataError: The runs are of different sets or metrics, an id means two questions, or nothing can be paired.
    """
    for name in ("set", "split", "metric"):
        ours, theirs = getattr(first.header, name), getattr(second.header, name)
        if ours != theirs:
            raise DataError(
                f"{first.header.run!r} has {name} {ours!r} and {second.header.run!r} has {theirs!r}: "
                "only runs over the same questions, scored alike, can be paired"
            )
    ours, theirs = ({example.id: example for example in each.examples} for each in (first, second))
    pairs = [(ours[name], theirs[name]) for name in ours if name in theirs]
    if not pairs:
        raise DataError(f"{first.header.run!r} and {second.header.run!r} have no example in common: compare others")
    for one, other in pairs:
        if one.question != other.question:
            raise DataError(
                f"example {one.id!r} is another question in {first.path} than in {second.path}: "
                "the runs read different data"
            )
    right = [one.correct for one, _ in pairs], [other.correct for _, other in pairs]
    found = paired_bootstrap(right[0], right[1], seed=seed)
    scored = found
    if first.header.metric != EXACT:
        scored = paired_bootstrap([one.score for one, _ in pairs], [other.score for _, other in pairs], seed=seed)
    return Comparison(
        first=first.header.run,
        second=second.header.run,
        n=len(pairs),
        only_first=len(ours) - len(pairs),
        only_second=len(theirs) - len(pairs),
        accuracy=(sum(right[0]) / len(pairs), sum(right[1]) / len(pairs)),
        difference=found.difference,
        interval=(found.low, found.high),
        p=mcnemar(*right),
        won=sum(a and not b for a, b in zip(*right, strict=True)),
        lost=sum(b and not a for a, b in zip(*right, strict=True)),
        metric=first.header.metric,
        score_difference=scored.difference,
        score_interval=(scored.low, scored.high),
        changes=tuple(Change(a, b) for a, b in pairs if (a.correct, a.score) != (b.correct, b.score)),
    )
