"""Models shared by the golden and the bad-input tests, each made or loaded once in a session."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny

TOLERANCE = 1e-4  # the largest absolute difference allowed in float32
CHAT = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "How many clips did Natalia sell?"},
]


@dataclasses.dataclass
class Pair:
    """The same tiny model twice: `ours` is densecore's, `theirs` is transformers' in float32."""

    arch: str
    folder: Path
    ours: Any
    theirs: Any

    def ids(self, seed: int, length: int) -> list[int]:
        """Random ids over the whole vocabulary, padding rows included."""
        return np.random.default_rng(seed).integers(0, tiny.VOCAB, length).tolist()


def close(ours: Any, theirs: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Same shape, and no component further apart than the tolerance."""
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    assert np.isfinite(ours).all()
    apart = float(np.abs(ours.astype(np.float64) - theirs).max())
    assert apart <= tolerance, f"{apart:.2e} apart, {tolerance:.0e} allowed"


def make_pair(arch: str, folder: Path, **options: Any) -> Pair:
    """Write a tiny model and load it on both sides."""
    import densecore
    from tests.golden import reference

    tiny.make_tiny(arch, folder, **options)
    return Pair(arch, folder, densecore.Model.load(folder, kv="f32"), reference.load(folder))


@pytest.fixture(scope="session", params=list(tiny.SHAPES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One tiny model per architecture: tied and in one file, untied and in shards, tied again."""
    arch = request.param
    pytest.importorskip("transformers", reason="the reference is the extra `dev`")
    return make_pair(
        arch, tmp_path_factory.mktemp(arch), seed=1, sharded=arch == "qwen3", tied=arch not in ("qwen3", "phi2")
    )


@pytest.fixture(scope="session", params=["qwen2", "qwen3", "llama", "phi2"])
def calm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Models whose latent loops are not chaotic, so that 32 steps have one answer in float32."""
    pytest.importorskip("transformers", reason="the reference is the extra `dev`")
    arch = request.param
    gain = 0.8 if arch == "qwen2" else 0.5
    return make_pair(arch, tmp_path_factory.mktemp(f"calm-{arch}"), seed=1, tied=False, gain=gain, spread=1.15)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One tiny Qwen2, where the architecture does not matter."""
    pytest.importorskip("transformers", reason="the reference is the extra `dev`")
    return make_pair("qwen2", tmp_path_factory.mktemp("small"), seed=2)


@pytest.fixture(scope="session")
def plain(small: Pair) -> Any:
    """That Qwen2, keeping no prefixes."""
    import densecore

    return densecore.Model.load(small.folder, kv="f32", prefix_bytes=0)


@pytest.fixture
def keeping(small: Pair) -> Any:
    """The same afresh, keeping prefixes."""
    import densecore

    return densecore.Model.load(small.folder, kv="f32")


@pytest.fixture
def no_cache_on_disk() -> None:
    """Of DSPy: nothing of an earlier run answers."""
    import dspy

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Another model of the same shape: its states have the right width and the wrong fingerprint."""
    import densecore

    pytest.importorskip("transformers", reason="the maker of tiny models is the extra `dev`")
    return densecore.Model.load(tiny.make_tiny("qwen2", tmp_path_factory.mktemp("other"), seed=3))


def real_path(name: str) -> Path:
    """The verified local file of a catalogue model, fetched if need be."""
    from densecore import models

    return Path(models.resolve(name).path)


@pytest.fixture(scope="session")
def qwen() -> Any:
    """Real Qwen, 1.5 billion parameters, Q4_K_M."""
    import densecore

    return densecore.Model.load(real_path("qwen2.5-coder-1.5b-instruct"), context=2048)


@pytest.fixture(scope="session")
def smol() -> Any:
    """Real SmolLM2, 135 million parameters, Q4_1."""
    import densecore

    return densecore.Model.load(real_path("smollm2-135m-instruct"))


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random weights with room for the prompts of agents, of which every letter is a token."""
    pytest.importorskip("transformers", reason="the maker of tiny models is the extra `dev`")
    import densecore

    folder = tmp_path_factory.mktemp("wide")
    return densecore.Model.load(tiny.make_tiny("qwen2", folder, seed=6, layers=2, context=16384))
