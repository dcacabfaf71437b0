"""Eight vectors learn, through frozen SmolLM2, to make it say a fixed sentence of 20 tokens greedily."""

from __future__ import annotations

from typing import Any

from tests.golden.fixtures import real_path
from tests.verify.record import say

PEERS = ("torch",)
NAME = "smollm2-135m-instruct"
MODELS = (NAME,)
SENTENCE = (
    "Every Tuesday the grey ferry carries seven goats, a piano and one very patient postman across the cold lake."
)
TOKENS = 20
VECTORS = 8
STEPS = 500
SEEDS = (0, 1, 2)


def steps_needed(model: Any, targets: list[int], seed: int) -> int | None:
    """Adam steps until the greedy continuation of the vectors is the sentence; None if that never came."""
    import torch

    from densecore.torch import loss

    made = torch.Generator().manual_seed(seed)
    # As long as embeddings are, so that the model sees nothing strange at first.
    length = float(torch.from_dlpack(model.embed(" the a of lake goats piano cold")).norm(dim=-1).mean())
    start = torch.randn(VECTORS, model.config.width, generator=made)
    soft = (start * length / start.norm(dim=-1, keepdim=True)).requires_grad_()
    optimizer = torch.optim.Adam([soft], lr=0.02)
    for step in range(1, STEPS + 1):
        value = loss(model, None, soft, targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step % 10 == 0:
            answer = model.generate((soft.detach(),), max_tokens=len(targets), ignore_eos=True)
            if step % 50 == 0:
                say(f"  seed {seed}, step {step}: loss {value.item():.3f}, {answer.text!r}")
            if answer.ids == targets:
                return step
    return None


def check() -> tuple[bool, dict[str, Any]]:
    """Steps needed from each start; all must get there."""
    import densecore

    model = densecore.Model.load(real_path(NAME))
    targets = model.tokenize(SENTENCE)[:TOKENS]
    needed = {seed: steps_needed(model, targets, seed) for seed in SEEDS}
    figures = {
        "sentence": model.detokenize(targets),
        "tokens": len(targets),
        "vectors": VECTORS,
        "steps_allowed": STEPS,
        "steps_needed_by_seed": {str(seed): steps for seed, steps in needed.items()},
    }
    return len(targets) == TOKENS and all(needed.values()), figures
