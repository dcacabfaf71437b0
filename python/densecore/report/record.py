"""The lines of a journal: what a run was, and one example of it, to JSON and back.

>>> example = Example(0, "dev-0", "1 + 1?", gold="2", prediction="2", text="It is 2.", correct=True)
>>> example.score
1.0
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import densecore
from densecore.errors import DataError
from densecore.hardware import hardware
from densecore.runs import journal

FORMAT = 1
"""The version of the file's format."""
EXACT = "exact match"
"""The metric whose score is 1 for a correct answer and 0 for any other."""
ENGINE, SERVER, API = "engine", "server", "api"
"""Who computed the answers: this package, a server the user named, or a provider."""
_MAGIC = b'{"densecore_journal": '
_MATTERS = ("run", "set", "split", "program", "seed", "model", "model_hash", "quantisation", "metric", "settings")
_MATTERS_TOO = (  # of the dictionaries, these
    ("machine", ("cpu", "tier", "threads")),
    ("versions", ("densecore", "source", "dspy")),
)
_PACKAGES = ("densecore", "dspy")


@dataclass(frozen=True)
class Header:
    """What a run was: enough to repeat it."""

    run: str
    """Its name, unique among the runs it is shown with."""
    set: str
    split: str
    program: str
    seed: int
    model: str
    model_hash: str = ""
    quantisation: str = ""
    answered_by: str = ENGINE
    """``ENGINE``, ``SERVER`` or ``API``, which tells what an answer cost."""
    metric: str = EXACT
    """What an example's ``score`` is."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Whatever else changes the answers: limits of tokens, retrieval, a compiled program's hash."""
    command: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""

    @classmethod
    def begin(cls, **facts: Any) -> Header:
        """A header of a run that begins now: command, machine, versions and time are filled in unless given."""
        filled: dict[str, Any] = {
            "command": shlex.join(["python", *sys.orig_argv[1:]]),
            "machine": machine(),
            "versions": versions(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        return cls(**(filled | facts))

    def differences(self, other: Header) -> list[tuple[str, Any, Any]]:
        """Fields that must be the same for one journal to hold both runs, and are not: name, own value, other's."""
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in _MATTERS]
        for name, keys in _MATTERS_TOO:
            ours, theirs = getattr(self, name), getattr(other, name)
            pairs += [(f"{name}.{key}", ours.get(key), theirs.get(key)) for key in keys]
        return [(name, ours, theirs) for name, ours, theirs in pairs if _canonical(ours) != _canonical(theirs)]


@dataclass(frozen=True)
class Example:
    """One question, its answer, and what the answer cost."""

    index: int
    id: str
    question: str
    gold: str
    prediction: str
    """The answer as it was read out of ``text``."""
    text: str
    """Everything the program wrote."""
    correct: bool
    score: float = math.nan
    """0 to 1, in the header's metric; left out, 1 for a correct answer and 0 for any other."""
    failure: str | None = None
    """The class of the failure, of a wrong answer."""
    emitted_tokens: int = 0
    latent_steps: int = 0
    prompt_tokens: int = 0
    positions: int = 0
    cached_positions: int = 0
    seconds: float = 0.0
    """From the question to its answer; questions in work at the same time each count whole."""
    error: str | None = None
    """What was raised instead of an answer."""
    scores: dict[str, float] = field(default_factory=dict)
    """Other scores of the same answer, by name."""
    ended: float = 0.0
    """Seconds since 1970; :meth:`Journal.append` fills it in."""

    def __post_init__(self) -> None:
        if isinstance(self.score, float) and math.isnan(self.score):
            object.__setattr__(self, "score", 1.0 if self.correct else 0.0)
        if not self.id:
            raise DataError("an example without an id: give each its own, which tells it from the others of the set")
        for name in ("index", "emitted_tokens", "latent_steps", "prompt_tokens", "positions", "cached_positions"):
            if getattr(self, name) < 0:
                raise DataError(f"example {self.id!r}: {name} = {getattr(self, name)}: a count starts at 0")
        for name, score in {"score": self.score, **self.scores}.items():
            if not 0.0 <= score <= 1.0:
                raise DataError(f"example {self.id!r}: {name} = {score!r}: a score lies between 0 and 1")
        if not 0.0 <= self.seconds < math.inf:
            raise DataError(f"example {self.id!r}: seconds = {self.seconds!r}: give a time of 0 or more")


def _canonical(value: Any) -> str:
    """A value as it is after a journey through a file, where a tuple has become a list."""
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"{value!r} cannot be written as JSON: {error}") from error


def machine() -> dict[str, Any]:
    """What a reader must know of this machine to judge the seconds; nothing that names it."""
    found = hardware()
    return {
        "cpu": found.cpu,
        "tier": found.tier,
        "physical": found.physical,
        "threads": found.threads,
        "memory_total": found.memory_total,
    }


def versions() -> dict[str, str]:
    """Versions of what computed the answers; ``source`` tells two builds of densecore of one version apart."""
    source = hashlib.sha256()
    folder = Path(densecore.__file__).parent
    for place in sorted([*folder.rglob("*.py"), *folder.glob("_core*.so")]):
        source.update(f"{place.relative_to(folder).as_posix()}\n".encode() + place.read_bytes())
    found = {"python": platform.python_version(), "source": source.hexdigest()[:16]}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def line(record: Header | Example) -> bytes:
    """A record as the journal holds it.

    Raises:
        DataError: It holds what JSON cannot.
    """
    facts = asdict(record)
    return journal.line({"densecore_journal": FORMAT, **facts} if isinstance(record, Header) else facts)


def recognise(place: Path, data: bytes) -> None:
    """A DataError unless the file is a journal, be it one that was begun or is damaged."""
    if not (data.startswith(_MAGIC) or _MAGIC.startswith(data)):
        raise DataError(f"{place}:1: this is no journal of densecore: its first line names no format")


def parse(place: Path, data: bytes) -> tuple[Header, list[Example]] | None:
    """Header and examples of the whole lines; nothing of a file without a whole header.

    Raises:
        DataError: The file is no journal, or a whole line of it cannot be right; the message names the line.
    """
    recognise(place, data)
    lines = journal.lines(data)
    if not lines:
        return None
    facts = journal.record(place, *lines[0])
    version = facts.pop("densecore_journal")
    if version != FORMAT:
        raise DataError(f"{place}:1: format {version!r}, and this densecore reads {FORMAT}: use the one that wrote it")
    header = _typed(Header, facts, place, 1)
    examples: dict[str, Example] = {}
    for number, each in lines[1:]:
        example = _typed(Example, journal.record(place, number, each), place, number)
        if example.id in examples:
            raise DataError(f"{place}:{number}: example {example.id!r} is there twice: remove one of the lines")
        examples[example.id] = example
    return header, list(examples.values())


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return _whole(value) or (isinstance(value, float) and math.isfinite(value))


_KINDS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "int": _whole,
    "float": _number,
    "bool": lambda value: isinstance(value, bool),
    "dict[str, Any]": lambda value: isinstance(value, dict),
    "dict[str, str]": lambda value: isinstance(value, dict) and all(isinstance(item, str) for item in value.values()),
    "dict[str, float]": lambda value: isinstance(value, dict) and all(_number(item) for item in value.values()),
}
Made = TypeVar("Made", Header, Example)


def _typed(kind: type[Made], facts: dict[str, Any], place: Path, number: int) -> Made:
    known = {each.name: str(each.type) for each in fields(kind)}
    for name, value in facts.items():
        if name not in known:
            raise DataError(f"{place}:{number}: the field {name!r} is not known: a newer densecore may have written it")
        if not _KINDS[known[name]](value):
            raise DataError(f"{place}:{number}: {name} = {value!r}: this should be {known[name]}")
    try:
        return kind(**facts)
    except TypeError as error:
        missing = [each.name for each in fields(kind) if each.name not in facts]
        raise DataError(f"{place}:{number}: fields are missing, among {', '.join(missing)}") from error
    except DataError as error:
        raise DataError(f"{place}:{number}: {error}") from error
