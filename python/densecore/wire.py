"""What crosses into the engine and back, as types; :mod:`densecore.results` gives the tuples names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from densecore import _core

Segment: TypeAlias = "str | _core.Hidden | Sequence[int]"
"""Text (special tokens in it stay text), vectors, or token ids."""
Plain: TypeAlias = "tuple[Literal['plain'], Sequence[Segment]]"
"""Segments as they stand."""
Chat: TypeAlias = "tuple[list[list[tuple[str, Any]]], list[tuple[str, Any]], str | None, str]"
"""``(messages, variables, template, "prompt" | "message" | "content")``: how it ends. Messages and variables are lists of
``(key, value)``; a content is a list of segments, and every other value what JSON knows."""
Prompt: TypeAlias = "Plain | tuple[Literal['chat'], Chat]"

Usage: TypeAlias = tuple[int, int, int, int, int, int, float, float]
"""``(prompt tokens, prompt vectors, emitted tokens, latent steps, positions, cached positions, seconds,
seconds waited)``."""
Logprob: TypeAlias = tuple[int, float, list[tuple[int, float]]]
"""``(id, its log-probability, [(id, log-probability)] of the likeliest)``."""
Generation: TypeAlias = tuple[str, list[int], str, list[Logprob], Usage, int, "Exception | None"]
"""``(text, ids, "stop" | "length" | "cancelled" | "error", one entry a token if asked for, usage, texts shortened, error)``."""
Score: TypeAlias = tuple[list[Logprob], Usage]
"""``(one entry a target token, usage)``."""
Thought: TypeAlias = "tuple[_core.Hidden, list[int], int | None, _core.Context, Usage]"
"""``(vectors fed back, likeliest token at each step, the token that ended it, the context after it, usage)``."""
Event: TypeAlias = tuple[int, str, list[int], str | None, list[Logprob]]
"""``(which prompt, text, ids, finish reason in its last event, one entry a token if asked for)``."""

GenerateOptions: TypeAlias = dict[str, Any]
"""Options of a generation as :mod:`densecore.options` reads them; what is left out is the engine's default."""

Prefix: TypeAlias = "Prompt | _core.Context | None"
"""What comes before vectors."""
KvPair: TypeAlias = "tuple[_core.Hidden, _core.Hidden]"
"""A layer's gradients by keys and values, ``(positions, kv_heads * head_dim)`` each."""
GradOptions: TypeAlias = "tuple[int | None, bool, bool]"
"""``(bytes for kept activations, gradients by keys and values too, raw)``."""
LossItem: TypeAlias = "tuple[Prefix, _core.Hidden, list[int], list[float] | None]"
"""``(prefix, vectors, targets, weights)``."""
Loss: TypeAlias = "tuple[float, list[float], _core.Hidden | None, list[KvPair], Usage]"
"""``(loss, log-probabilities of the targets, gradient, gradients by keys and values, usage)``."""


class ThinkOptions(TypedDict):
    """Options of latent steps."""

    steps: int
    mode: str
    """``"mixture"``, ``"state"`` or ``"token"``."""
    temperature: float
    top_k: int
    """0 for the whole vocabulary."""
    stop: list[int]
    ignore_eos: bool
    cache_salt: str | None


class Config(TypedDict):
    """A model's shape, the fields of :class:`densecore.ModelConfig`."""

    arch: str
    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    norm_eps: float
    rope_theta: float
    tied: bool
    context: int
