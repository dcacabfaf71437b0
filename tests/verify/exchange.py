"""10,000 exchange round trips with vectors of real Qwen's width: growth of resident memory."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np

from tests.golden.fixtures import real_path
from tests.golden.test_exchange import exchange, resident

PEERS = ("torch",)
CAP = 5.0

MODELS = ("smollm2-135m-instruct",)


def check() -> tuple[bool, dict[str, Any]]:
    """SmolLM2 gives the fingerprint; memory is read before and after, warm."""
    import densecore

    model = densecore.Model.load(real_path(*MODELS))
    source = np.random.default_rng(0).standard_normal((512, model.config.width)).astype(np.float32)
    exchange(model, source, 1000)
    gc.collect()
    before = resident()
    exchange(model, source, 10_000)
    gc.collect()
    grown = (resident() - before) / 1e6
    return grown <= CAP, {"round_trips": 10_000, "grown_mb": round(grown, 2), "cap_mb": CAP}
