"""A model's shape, and the memory it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """A model's shape."""

    arch: str
    """``"qwen2"``, ``"qwen3"`` or ``"llama"``."""
    vocab: int
    width: int
    """Components of a hidden state, d."""
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    norm_eps: float
    rope_theta: float
    tied: bool
    """Whether the head is the embedding matrix."""
    context: int
    """Longest sequence in positions, as loaded."""


@dataclass(frozen=True)
class Memory:
    """Bytes a model takes now."""

    weights: int
    """Matrices, once they are packed."""
    file: int
    """The weight files, mapped, mostly not resident."""
    caches: int
    """Keys and values of all contexts."""
    caches_allowed: int
