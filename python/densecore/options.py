"""The options of a generation, for models, contexts and streams alike. Ranges and defaults are the engine's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from densecore import _core
from densecore.arguments import number, optional, salt, texts, truth, whole
from densecore.errors import ArgumentError
from densecore.forms.form import read as read_form
from densecore.prompt import ids as token_ids
from densecore.spelling import LOADING, refuse

if TYPE_CHECKING:
    from densecore.forms.form import Form


class GenerateOptions(TypedDict, total=False):
    """How to generate; what is left out is as its line says."""

    max_tokens: int
    """Tokens at most; 256."""
    temperature: float
    """0, the default, takes the likeliest token."""
    top_k: int
    """Draw from the so many likeliest tokens; 0, the default, for all."""
    top_p: float
    """Draw from the fewest tokens that together reach this probability; 1."""
    min_p: float
    """Draw from tokens at least this fraction as likely as the likeliest; 0."""
    typical_p: float
    """Of these, draw from the tokens of the most expected surprise that together reach this probability; 1."""
    repetition_penalty: float
    """Divides positive and multiplies negative logits of tokens that the prompt or the answer holds; 1, the default, for none."""
    presence_penalty: float
    """Taken off the logits of tokens that the answer holds; 0."""
    frequency_penalty: float
    """Taken off the logits of tokens as often as the answer holds them; 0."""
    logit_bias: Mapping[int, float] | None
    """Added to the logits of some tokens."""
    min_tokens: int
    """Tokens before which neither an end token nor a stop text ends the answer; 0. A form that is at its end ends it."""
    n: int
    """Answers to each prompt, computed together; 1. With more, a prompt's result is a list of them."""
    seed: int | Sequence[int] | None
    """Repeats the draws; without one every call is fresh. Each prompt of a list has its own stream, of one seed too; a list of
    seeds gives each prompt its own."""
    stop: str | Sequence[str] | None
    """Texts that end the answer and are not part of it."""
    stop_token_ids: Sequence[int] | None
    """Tokens that end the answer beside the model's own, also with ``ignore_eos``."""
    form: Form | None
    """What the answer must look like: :class:`Json`, :class:`Regex`, :class:`Choice` or :class:`Lark`."""
    logprobs: int | None
    """Report log-probabilities, with so many alternatives a token; a token that the form forced has 0."""
    ignore_eos: bool
    """Go on past end tokens."""
    cache_salt: str | None
    """Share kept prefixes only with calls of the same salt, of 1 to 256 bytes; without one, with all calls that have none. Give
    each tenant its own, which nobody can guess: ``usage.cached_positions`` and the time a call takes tell what others have
    read."""


def _seeds(name: str, value: Any) -> list[int]:
    seeds = [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
    return [whole(name, seed, 0, 2**64 - 1) for seed in seeds]


def _bias(name: str, value: Any) -> list[tuple[int, float]]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{name} = {value!r:.80}: it must map token ids to numbers")
    return list(zip(token_ids(list(value)), [number(name, bias) for bias in value.values()], strict=True))


def _ids(name: str, value: Any) -> list[int]:
    if isinstance(value, (str, bytes)):
        raise ArgumentError(f"{name} = {value!r:.80}: it must be a list of token ids")
    return token_ids(list(value or ()))


def _form(name: str, value: Any) -> Any:
    del name
    return read_form(value)


READERS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "max_tokens": ("max_tokens", whole),
    "temperature": ("temperature", number),
    "top_k": ("top_k", whole),
    "top_p": ("top_p", number),
    "min_p": ("min_p", number),
    "typical_p": ("typical_p", number),
    "repetition_penalty": ("repetition_penalty", number),
    "presence_penalty": ("presence_penalty", number),
    "frequency_penalty": ("frequency_penalty", number),
    "logit_bias": ("logit_bias", _bias),
    "min_tokens": ("min_tokens", whole),
    "n": ("n", whole),
    "seed": ("seeds", _seeds),
    "stop": ("stop", texts),
    "stop_token_ids": ("stop_token_ids", _ids),
    "form": ("form", _form),
    "logprobs": ("logprobs", optional),
    "ignore_eos": ("ignore_eos", truth),
    "cache_salt": ("cache_salt", salt),
}
"""Each option's name in the engine, and what turns a value into the engine's kind or refuses it."""


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's options, checked before any work is started with them."""
    refuse("Model.generate", given, (*READERS, "raw", "cancel"), {"Model.load": LOADING})
    options = {}
    for name, value in given.items():
        known, reader = READERS[name]
        options[known] = reader(name, value)
    _core.check_options(options)
    return options
