"""Fixtures of the golden tests, and one thread for the reference so that both cores do not fight over toy matrices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.golden.fixtures import calm, keeping, no_cache_on_disk, other, pair, plain, qwen, small, smol, wide

__all__ = ["calm", "keeping", "no_cache_on_disk", "other", "pair", "plain", "qwen", "small", "smol", "wide"]


@pytest.fixture(scope="session", autouse=True)
def one_reference_thread() -> Iterator[None]:
    """PyTorch on one thread: tiny matrices are slower on two, and results do not depend on the split."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
