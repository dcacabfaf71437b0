"""Real Qwen Q4_K_M against float32 with the same weights dequantised: 2,000 positions of GSM8K text.

Three passes, one model in memory at a time: densecore, llama.cpp, then transformers (6.2 GB), which judges both. The
first two leave their logits in a temporary folder as files of 1.2 GB each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden import data, reference
from tests.golden.fixtures import real_path
from tests.verify.record import say, threads

PEERS = ("transformers", "torch", "llama-cpp-python", "gguf")
NAME = "qwen2.5-coder-1.5b-instruct"
MODELS = (NAME,)
POSITIONS = 2000
LEAD = 0.5  # nat by which the reference's best must lead for the arg-max to be binding
RATIO = 1.1
COSINE = 0.99


def ours_on(prompts: list[list[int]], store: np.ndarray) -> dict[int, np.ndarray]:
    """Fill the logits and return the states after three layers: early, middle, last (before the final norm)."""
    import densecore

    model = densecore.Model.load(real_path(NAME), context=1024)
    layers = model.config.layers
    states: dict[int, list[np.ndarray]] = {layer: [] for layer in (4, layers // 2, layers)}
    at = 0
    for ids in prompts:
        store[at : at + len(ids)] = model.logits(densecore.Ids(ids))
        at += len(ids)
        for layer, rows in states.items():
            rows.append(np.array(model.encode(densecore.Ids(ids), layer=layer, normed=False)))
    return {layer: np.concatenate(rows) for layer, rows in states.items()}


def llama_on(prompts: list[list[int]], store: np.ndarray) -> None:
    peer = reference.llama(real_path(NAME), n_ctx=512, logits_all=True, n_threads=threads(), n_threads_batch=threads())
    at = 0
    for ids in prompts:
        store[at : at + len(ids)] = reference.llama_logits(peer, ids)
        at += len(ids)


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Row by row, in float64."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def summary(divergence: np.ndarray, first: np.ndarray) -> dict[str, float]:
    """Mean and spread, and the first positions apart: their huge activation dominates a mean of eight-bit engines."""
    return {
        "mean": float(divergence.mean()),
        "median": float(np.median(divergence)),
        "p99": float(np.percentile(divergence, 99)),
        "mean_first_positions": float(divergence[first].mean()),
        "mean_other_positions": float(divergence[~first].mean()),
    }


def check() -> tuple[bool, dict[str, Any]]:
    """The three passes and the verdict."""
    vocabulary = reference.llama(real_path(NAME), vocab_only=True)
    prompts = data.gsm8k_positions(lambda text: reference.llama_ids(vocabulary, text), POSITIONS)
    first = np.concatenate([np.arange(len(ids)) == 0 for ids in prompts])
    with tempfile.TemporaryDirectory() as folder:
        shape = (POSITIONS, 151936)
        tables = {
            side: np.lib.format.open_memmap(Path(folder) / f"{side}.npy", "w+", np.float32, shape)
            for side in ("densecore", "llama.cpp")
        }
        say("  densecore ...")
        hidden = ours_on(prompts, tables["densecore"])
        say("  llama.cpp ...")
        llama_on(prompts, tables["llama.cpp"])
        say("  transformers, float32 ...")
        return judge(prompts, first, tables, hidden)


def judge(
    prompts: list[list[int]], first: np.ndarray, tables: dict[str, np.ndarray], hidden: dict[int, np.ndarray]
) -> tuple[bool, dict[str, Any]]:
    """Run the reference prompt by prompt and compare as it goes."""
    model = reference.model_from_gguf(real_path(NAME))
    apart: dict[str, list[np.ndarray]] = {side: [] for side in tables}
    wrong = dict.fromkeys(tables, 0)
    cosines: dict[int, list[np.ndarray]] = {layer: [] for layer in hidden}
    leading, at = 0, 0
    for ids in prompts:
        rows = slice(at, at + len(ids))
        at += len(ids)
        logits, states = reference.forward(model, ids)
        states[-1] = reference.before_norm(model, ids)
        ranked = np.partition(reference.log_softmax(logits), -2, axis=1)[:, -2:]
        clear = ranked[:, 1] - ranked[:, 0] > LEAD
        leading += int(clear.sum())
        for side, table in tables.items():
            apart[side].append(reference.divergence(logits, table[rows]))
            wrong[side] += int((table[rows].argmax(axis=1) != logits.argmax(axis=1))[clear].sum())
        for layer, ours in hidden.items():
            cosines[layer].append(cosine(ours[rows], states[layer]))
        say(f"  {at} of {POSITIONS}")
    kl = {side: np.concatenate(parts) for side, parts in apart.items()}
    ratio = float(kl["densecore"].mean() / kl["llama.cpp"].mean())
    others = float(kl["densecore"][~first].mean() / kl["llama.cpp"][~first].mean())
    medians = {layer: float(np.median(np.concatenate(parts))) for layer, parts in cosines.items()}
    passed = ratio <= RATIO and others <= RATIO and wrong["densecore"] == 0 and min(medians.values()) >= COSINE
    figures = {
        "positions": POSITIONS,
        "prompts": len(prompts),
        "kl_nat": {side: summary(values, first) for side, values in kl.items()},
        "kl_ratio": ratio,
        "kl_ratio_without_first_positions": others,
        "positions_where_the_reference_leads_by_half_a_nat": leading,
        "argmax_wrong_there": wrong,
        "median_cosine_of_hidden_states_after_layer": medians,
    }
    return passed, figures
