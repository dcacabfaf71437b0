"""What calls return, with names on everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from densecore import wire
    from densecore.context import Context
    from densecore.hidden import Hidden


@dataclass(frozen=True)
class Usage:
    """What a call cost. Emitted tokens and latent steps are different things and never added."""

    prompt_tokens: int
    """Tokens of the prompt."""
    prompt_vectors: int
    """Vectors of the prompt."""
    emitted_tokens: int
    """Tokens drawn for the answer, the ending one included."""
    latent_steps: int
    """Vectors fed back without a token."""
    positions: int
    """Positions that went through the model."""
    cached_positions: int
    """Positions not computed: found in the context it went on from, or in blocks kept from prompts that began alike."""
    seconds: float
    """Wall time."""
    waited_seconds: float
    """The part of it spent waiting for room in the key-value cache."""


@dataclass(frozen=True)
class TokenLogprob:
    """Natural logarithm of one token's probability, before temperature and filters."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """Likeliest tokens and theirs, best first."""


@dataclass(frozen=True)
class Generation:
    """An answer; ``str()`` gives its text."""

    text: str
    """Without stop strings and end tokens."""
    ids: list[int]
    """The ending token included."""
    finish_reason: str
    """``"stop"``, ``"length"`` (it used up its tokens; a form was closed in time, or could have gone on), ``"cancelled"``, or
    ``"error"``: of several answers one that could not go on, with its :attr:`error`; a lone answer raises it instead."""
    logprobs: list[TokenLogprob] | None
    """Per token, if asked for."""
    usage: Usage
    shortened: int = 0
    """Texts of its form that were ended so that what follows has room (``Lark(stretch=)``), at the best place found, where
    the model would sooner have gone on. Such an answer is whole, and its finish reason ``"stop"``."""
    error: Exception | None = None
    """Why it ended, where its finish reason is ``"error"``; the text is what was written until then."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Event:
    """A piece of a streamed answer. The texts of all events, joined, are the answer's text."""

    text: str
    """Whole characters only; empty while a character or a stop string is incomplete."""
    ids: list[int]
    finish_reason: str | None = None
    """Set in a prompt's last event."""
    index: int = 0
    """Which prompt of the list it belongs to; with ``n``, which answer, counted over all prompts."""
    logprobs: list[TokenLogprob] | None = None
    """One for each of ``ids``, if asked for."""


@dataclass(frozen=True)
class Score:
    """Teacher-forced log-probabilities of a target."""

    ids: list[int]
    logprobs: npt.NDArray[np.float32]
    """One a target token."""
    total: float
    """Their sum."""
    top: list[tuple[tuple[int, float], ...]]
    """Likeliest tokens at each place, if asked for."""
    usage: Usage


@dataclass(frozen=True)
class Readout:
    """What each position's final state would say next."""

    ids: npt.NDArray[np.uint32]
    """``(T, k)``, likeliest first."""
    probabilities: npt.NDArray[np.float32]
    """``(T, k)``."""
    tokens: list[list[str]] = field(repr=False)
    """The same ids as text."""


@dataclass(frozen=True)
class Thought:
    """A finished chain of latent steps: nothing was emitted."""

    vectors: Hidden
    """What was fed back, ``(steps, d)``, in the input space."""
    context: Context
    """The context after the last step, ready to go on."""
    ids: list[int]
    """The likeliest token at each step."""
    stopped: bool
    """Whether an end or stop token ended it."""
    usage: Usage


def usage(raw: wire.Usage) -> Usage:
    """Name the engine's counts."""
    return Usage(*raw)


def logprob(raw: wire.Logprob) -> TokenLogprob:
    """Name one token's probability."""
    return TokenLogprob(raw[0], raw[1], tuple(raw[2]))


def logprobs(raw: list[wire.Logprob]) -> list[TokenLogprob]:
    """Name the probabilities of several."""
    return [logprob(token) for token in raw]


def generation(raw: wire.Generation, with_logprobs: bool) -> Generation:
    """Name an answer's parts."""
    text, ids, finish, tokens, counts, shortened, error = raw
    return Generation(text, ids, finish, logprobs(tokens) if with_logprobs else None, usage(counts), shortened, error)


def generations(raw: list[wire.Generation], with_logprobs: bool, n: int) -> list[Any]:
    """One answer a prompt, or ``n`` of them a prompt."""
    found = [generation(g, with_logprobs) for g in raw]
    return found if n == 1 else [found[i : i + n] for i in range(0, len(found), n)]


def alone(answer: Any) -> Any:
    """The answers to a lone prompt: a lone one raises its error."""
    if isinstance(answer, Generation) and answer.error is not None:
        raise answer.error
    return answer


def score(raw: wire.Score) -> Score:
    """Name a score's parts."""
    tokens, counts = raw
    logprobs = np.array([t[1] for t in tokens], dtype=np.float32)
    ids = [t[0] for t in tokens]
    return Score(ids, logprobs, float(logprobs.sum(dtype=np.float64)), [tuple(t[2]) for t in tokens], usage(counts))
