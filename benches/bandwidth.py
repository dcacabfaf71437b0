"""How fast this machine reads memory, and how many bytes of weights a token needs: together the ceiling of a decode."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

MIB = 256  # read by each thread in one pass, well past any cache that one thread has for itself
LEAST_MIB = 2048  # of all threads together: past a shared cache of hundreds of MiB
PASSES = 3


def read_gb_per_second(threads: int) -> float:
    """The best of a few passes over fresh memory, every thread at its own array.

    Two reductions are tried, because which of them keeps up with the memory differs by processor.
    """
    each = max(MIB, LEAST_MIB // threads) << 20
    arrays = [np.full(each // 4, number, dtype=np.float32) for number in range(threads)]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for reduce in (np.max, np.sum, _bits):
            for _ in range(PASSES):
                started = time.perf_counter()
                list(pool.map(reduce, arrays))
                best = max(best, threads * each / (time.perf_counter() - started))
    return best / 1e9


def _bits(array: np.ndarray) -> np.int64:
    return np.bitwise_or.reduce(array.view(np.int64))


def bytes_per_token(path: Path) -> int:
    """Bytes of weights that one decode step reads: every tensor but an embedding beside a head of its own."""
    from gguf import GGUFReader

    sizes = {tensor.name: int(tensor.n_bytes) for tensor in GGUFReader(str(path)).tensors}
    if "output.weight" in sizes:
        sizes.pop("token_embd.weight")
    return sum(sizes.values())
