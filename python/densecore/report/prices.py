"""What answers cost, here and at an API, and how close a run comes to a large model.

The aim: 90% of the score of a model of some 70 billion parameters, at under 5% of its cost. What a run cost is the
machine's time, by the hour; of a run whose answers came from an API it is what that API takes, which nobody but the user
knows. What the large model costs is a question read and an answer written at an API's prices, of
the set's mean lengths and without shots, which is less than its published score took; :class:`Prices` can say other
lengths. Where a set's lengths are not known, it is charged for what the run read and emitted.

>>> Price(input=0.6, output=0.8).cost(1_000_000, 500_000)
1.0
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from densecore.errors import ArgumentError, StorageError
from densecore.report.published import API, LARGE, REFERENCES, THREAD_HOUR, Price, Reference
from densecore.report.record import ENGINE, EXACT, SERVER
from densecore.report.summary import Row

AIM_SCORE = 0.90
"""The share of a large model's score that is aimed at."""
AIM_COST = 0.05
"""The share of its cost to stay under."""
KEYS = ("hour", "lm_input", "lm_output", "input", "output", "prompt_tokens", "output_tokens")
"""What :meth:`Prices.set` takes."""
_PRICED = ("input", "output")


@dataclass(frozen=True)
class Prices:
    """Prices of a comparison; every one can be set."""

    hour: float | None = None
    """US dollars for an hour of the machine; ``None`` takes ``THREAD_HOUR`` for each of its threads."""
    lm: Price | None = None
    """What the API takes whose model answered; ``None`` where nobody said."""
    large: Price = LARGE
    api: Mapping[str, Price] = field(default_factory=lambda: API)
    """By the name of the large model; ``large`` where it is missing."""
    prompt_tokens: float | None = None
    """What the large model reads for a question; ``None`` takes the set's mean, or what the run read."""
    output_tokens: float | None = None
    """What it writes; ``None`` takes the set's mean, or what the run emitted."""

    def __post_init__(self) -> None:
        optional = {"hour": self.hour, "prompt_tokens": self.prompt_tokens, "output_tokens": self.output_tokens}
        _check({name: value for name, value in optional.items() if value is not None})
        for price in (self.large, *self.api.values(), *([self.lm] if self.lm else [])):
            _check({"input": price.input, "output": price.output})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Prices:
        """Prices from a TOML or JSON file with any of ``KEYS``, as :meth:`set` takes them.

        ``[models."Llama 3.1 70B Instruct"]`` with ``input`` and ``output`` prices one large model on its own.

        Raises:
            ArgumentError: The file holds something else.
            StorageError: It cannot be read.
        """
        place = Path(path)
        facts = _file(place)
        models = facts.pop("models", {})
        _known(place, facts, KEYS)
        _check({f"{place}: {name}": value for name, value in facts.items()})
        if not isinstance(models, dict) or not all(isinstance(each, dict) for each in models.values()):
            raise ArgumentError(f'{place}: models: write [models."NAME"] with input and output under it')
        for name, each in models.items():
            _known(place, each, _PRICED)
            if len(each) < 2:
                raise ArgumentError(f"{place}: {name!r} needs input and output, in US dollars a million tokens")
            _check({f"{place}: {name!r} {key}": value for key, value in each.items()})
        priced = {name: Price(each["input"], each["output"]) for name, each in models.items()}
        return cls(api={**API, **priced}).set(**facts)

    def set(self, **facts: float | None) -> Prices:
        """The same prices with some of ``KEYS`` changed; a value of ``None`` changes nothing.

        ``input`` and ``output`` price every large model, ``lm_input`` and ``lm_output``, of which one needs the other, the
        API that answered: US dollars a million tokens.

        >>> Prices().set(hour=0.1, input=1.0).large
        Price(input=1.0, output=0.79, source='set by the user')
        """
        given: dict[str, Any] = {name: value for name, value in facts.items() if value is not None}
        flat: dict[str, Any] = {name: given.pop(name) for name in _PRICED if name in given}
        _check(flat)
        if flat:
            given["large"] = replace(self.large, **flat, source="set by the user")
            given["api"] = {name: price for name, price in self.api.items() if price is not API.get(name)}
        answered: dict[str, Any] = {name: given.pop(f"lm_{name}") for name in _PRICED if f"lm_{name}" in given}
        _check({f"lm_{name}": value for name, value in answered.items()})
        if answered and self.lm is None and len(answered) < len(_PRICED):
            raise ArgumentError(f"lm_{next(iter(answered))}: give lm_input and lm_output, US dollars a million tokens")
        if answered:
            given["lm"] = replace(self.lm or Price(0.0, 0.0), **answered, source="set by the user")
        return replace(self, **given)

    def of(self, model: str) -> Price:
        """What a large model takes."""
        return self.api.get(model, self.large)

    def hourly(self, machine: Mapping[str, Any]) -> float:
        """US dollars for an hour of a machine."""
        if self.hour is not None:
            return self.hour
        threads = machine.get("threads")
        return THREAD_HOUR * (threads if isinstance(threads, int) and threads > 0 else 1)

    def cost(self, row: Row) -> float | None:
        """What a question of a run cost, in US dollars: the time of its machine, or what the API took that answered.

        Nothing where that is not known. A server of the user's own costs its machine's time, if ``hour`` is set.
        """
        if row.answered_by != ENGINE:
            if self.lm is not None:
                return self.lm.cost(row.prompt_tokens, row.emitted_tokens)
            if row.answered_by != SERVER or self.hour is None:
                return None
        return row.machine_seconds * self.hourly(row.machine) / 3600


def _check(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and 0.0 <= value < math.inf):
            raise ArgumentError(f"{name} = {value!r}: give a number of 0 or more")


def _known(place: Path, found: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in found:
        if name not in names:
            raise ArgumentError(f"{place}: {name!r} is not known; known are {', '.join(names)}")


def _file(place: Path) -> dict[str, Any]:
    try:
        data = place.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot read the prices {place}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{place} is no text: write prices as TOML or JSON") from error
    try:
        if place.suffix == ".json":
            facts = json.loads(data)
        elif sys.version_info >= (3, 11):
            import tomllib

            facts = tomllib.loads(data)
        else:
            raise ArgumentError(f"{place}: this Python reads no TOML: write the prices as JSON, in a file named .json")
    except (ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{place}: {error}") from error
    if not isinstance(facts, dict):
        raise ArgumentError(f'{place}: write names and numbers, as in {{"hour": 0.1}}')
    return facts


@dataclass(frozen=True)
class Aim:
    """A run beside one large model."""

    run: str
    reference: Reference
    reached: float
    """The run's score in the reference's metric."""
    share_of_score: float
    interval: tuple[float, float]
    """Of the share of the score, from the run's 95% interval; the published score is taken as it is."""
    cost: float
    """US dollars a question."""
    prompt_tokens: float
    """What the large model is taken to read for a question."""
    output_tokens: float
    """What it is taken to write."""
    reference_cost: float
    price: Price
    share_of_cost: float
    """Infinite where the large model would cost nothing."""
    passed: bool

    def record(self) -> dict[str, Any]:
        """The same for JSON, which knows no infinity."""
        made = asdict(self)
        made["share_of_cost"] = self.share_of_cost if math.isfinite(self.share_of_cost) else None
        return made


def aims(row: Row, prices: Prices, references: tuple[Reference, ...] = REFERENCES) -> list[Aim]:
    """A run beside every large model whose score of its set, in a metric it has, is known; none if its cost is not."""
    cost, found = prices.cost(row), []
    if cost is None:
        return []
    for reference in references:
        if _plain(reference.set) != _plain(row.set) or reference.metric not in (EXACT, row.metric):
            continue
        exact = reference.metric == EXACT
        reached, bounds = (row.accuracy, row.interval) if exact else (row.score, row.score_interval)
        prompt = _first(prices.prompt_tokens, reference.prompt_tokens, row.prompt_tokens)
        output = _first(prices.output_tokens, reference.output_tokens, row.emitted_tokens)
        price = prices.of(reference.model)
        theirs = price.cost(prompt, output)
        share, share_of_cost = reached / reference.score, cost / theirs if theirs else math.inf
        found.append(
            Aim(
                run=row.run,
                reference=reference,
                reached=reached,
                share_of_score=share,
                interval=(bounds[0] / reference.score, bounds[1] / reference.score),
                cost=cost,
                prompt_tokens=prompt,
                output_tokens=output,
                reference_cost=theirs,
                price=price,
                share_of_cost=share_of_cost,
                passed=share >= AIM_SCORE and share_of_cost < AIM_COST,
            )
        )
    return found


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
