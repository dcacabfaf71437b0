"""The other side of every golden test: transformers in float32, and llama.cpp.

Nothing here imports densecore. Everything returns NumPy arrays, so that a test compares arrays and no framework.
"""

from __future__ import annotations

import contextlib
import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGUFReader
from gguf.quants import dequantize

# GGUF name of a layer's tensor -> transformers' name inside `model.layers.<i>.`
LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
OUTER_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
transformers.utils.logging.disable_progress_bar()
CLASSES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}


def field(reader: GGUFReader, key: str, default: Any = None) -> Any:
    """One metadata value, or the default where the file does not have it."""
    found = reader.get_field(key)
    return default if found is None else found.contents()


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a llama q or k projection from transformers' order (two halves) to GGUF's (neighbouring pairs)."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of :func:`permute`."""
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def config_from_gguf(reader: GGUFReader) -> transformers.PretrainedConfig:
    """The transformers config that describes the same network as the file."""
    arch = field(reader, "general.architecture")
    width, heads = field(reader, f"{arch}.embedding_length"), field(reader, f"{arch}.attention.head_count")
    names = {t.name for t in reader.tensors}
    vocab = next(int(t.shape[1]) for t in reader.tensors if t.name == "token_embd.weight")
    config = getattr(transformers, CLASSES[arch] + "Config")(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=field(reader, f"{arch}.feed_forward_length"),
        num_hidden_layers=field(reader, f"{arch}.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=field(reader, f"{arch}.attention.head_count_kv", heads),
        head_dim=field(reader, f"{arch}.attention.key_length", width // heads),
        rms_norm_eps=field(reader, f"{arch}.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": float(field(reader, f"{arch}.rope.freq_base", 10000.0))},
        max_position_embeddings=field(reader, f"{arch}.context_length"),
        tie_word_embeddings="output.weight" not in names,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        attn_implementation="sdpa",
    )
    return config


def model_from_gguf(path: Path | str) -> transformers.PreTrainedModel:
    """A float32 transformers model with the very weights of a GGUF file, dequantised.

    1.5 B parameters take 6.2 GB; the tensors are made one at a time and handed over without a second copy.
    """
    reader = GGUFReader(str(path))
    config = config_from_gguf(reader)
    with torch.device("meta"):
        model = getattr(transformers, CLASSES[config.model_type] + "ForCausalLM")(config)
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        rows = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in OUTER_NAMES:
            state[OUTER_NAMES[tensor.name]] = torch.from_numpy(rows)
            continue
        _, layer, name = tensor.name.split(".", 2)
        if config.model_type == "llama" and name in ("attn_q.weight", "attn_k.weight"):
            heads = config.num_attention_heads if name == "attn_q.weight" else config.num_key_value_heads
            rows = np.ascontiguousarray(unpermute(rows, heads))
        state[f"model.layers.{layer}.{LAYER_NAMES[name]}"] = torch.from_numpy(rows)
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    left = model.load_state_dict(state, strict=False, assign=True)
    if left.missing_keys or left.unexpected_keys:
        raise AssertionError(f"{path}: tensors do not match the model: {left}")
    # The rotary frequencies are a buffer, not a weight: rebuilt outside the meta device.
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    return model.eval()


def load(folder: Path | str) -> transformers.PreTrainedModel:
    """A safetensors folder in float32, from the local disk only."""
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
    return model.eval()


@torch.no_grad()
def forward(model: Any, ids: Any = None, vectors: np.ndarray | None = None) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits `(T, vocab)` and the hidden states `(T, d)`: index 0 feeds the first block, the last is final and normed."""
    inputs = (
        {"input_ids": torch.tensor([list(ids)])} if vectors is None else {"inputs_embeds": torch.tensor(vectors)[None]}
    )
    out = model(**inputs, output_hidden_states=True, use_cache=False)
    return out.logits[0].float().numpy(), [state[0].float().numpy() for state in out.hidden_states]


@torch.no_grad()
def forward_exact(model: Any, ids: Any) -> np.ndarray:
    """Logits `(T, vocab)` of the same weights computed in float64 (rotary angles stay float32, as everywhere)."""
    return copy.deepcopy(model).double()(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].numpy()


def embeddings(model: Any) -> torch.Tensor:
    """The rows that the first layer reads, `(vocab, d)`: scaled where the model scales them."""
    table = model.get_input_embeddings()
    scale = getattr(table, "embed_scale", None)
    return table.weight if scale is None else (table.weight * scale).detach()


def final_norm(model: Any) -> Any:
    """The module behind the last layer."""
    return getattr(model.model, "norm", None) or model.model.final_layernorm


@torch.no_grad()
def before_norm(model: Any, ids: Any) -> np.ndarray:
    """States after the last block and before the final norm, `(T, d)`: transformers gives only the normed ones."""
    caught: list[torch.Tensor] = []
    hook = final_norm(model).register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        hook.remove()
    return caught[0][0].numpy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def divergence(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL(reference || other) in nats for each row of two `(T, vocab)` logit tables."""
    log_p, log_q = log_softmax(reference), log_softmax(other)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


@torch.no_grad()
def greedy(model: Any, ids: list[int], steps: int, eos: tuple[int, ...] = ()) -> list[int]:
    """Arg-max continuation by whole forward passes, the plainest loop there is."""
    made: list[int] = []
    for _ in range(steps):
        made.append(int(model(input_ids=torch.tensor([ids + made]), use_cache=False).logits[0, -1].argmax()))
        if made[-1] in eos:
            break
    return made


@torch.no_grad()
def think(
    model: Any, ids: list[int], steps: int, mode: str, temperature: float = 1.0, top_k: int = 10
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """The latent loop over `inputs_embeds`: vectors fed back `(steps, d)`, arg-max ids, and the logits that follow.

    Every step runs the whole sequence again, without a cache, so nothing but the rule itself is compared.
    """
    table = embeddings(model)
    mean_norm = table.norm(dim=-1).mean()
    inputs = table[torch.tensor(ids)]
    chosen: list[int] = []
    out = model(inputs_embeds=inputs[None], output_hidden_states=True, use_cache=False)
    for _ in range(steps):
        logits, state = out.logits[0, -1], out.hidden_states[-1][0, -1]
        chosen.append(int(logits.argmax()))
        if mode == "mixture":
            values, places = logits.topk(top_k)
            vector = torch.softmax(values / temperature, dim=-1) @ table[places]
        elif mode == "state":
            vector = state * (mean_norm / state.norm())
        else:
            vector = table[chosen[-1]]
        inputs = torch.cat([inputs, vector[None]])
        out = model(inputs_embeds=inputs[None], output_hidden_states=True, use_cache=False)
    return inputs[len(ids) :].numpy(), chosen, out.logits[0, -1].numpy()


@contextlib.contextmanager
def quiet() -> Any:
    """llama.cpp prints from C: send both streams away while it loads."""
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1), os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept[0], 1), os.dup2(kept[1], 2)
        for number in (*kept, nowhere):
            os.close(number)


def llama(path: Path | str, **options: Any) -> Any:
    """llama.cpp on a file, silent. Options as of `llama_cpp.Llama`."""
    from llama_cpp import Llama

    with quiet():
        return Llama(str(path), verbose=False, **options)


def llama_ids(peer: Any, text: str) -> list[int]:
    """Ids with special parsing and the start token off."""
    return list(peer.tokenize(text.encode(), add_bos=False, special=False))


def llama_logits(peer: Any, ids: list[int]) -> np.ndarray:
    """Logits `(T, vocab)` of one prompt; the model must have been opened with `logits_all=True`."""
    peer.reset()
    peer.eval(list(ids))
    return np.array(peer.scores[: len(ids)], dtype=np.float32)


def gradient(
    model: Any, prefix: list[int], vectors: np.ndarray, targets: list[int], weights: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Loss of the targets after prefix and vectors, and its gradient by the vectors, by torch's own autograd."""
    table = embeddings(model)
    soft = torch.tensor(vectors, requires_grad=True)
    inputs = torch.cat(
        [table[torch.tensor(prefix, dtype=torch.long)], soft, table[torch.tensor(targets[:-1], dtype=torch.long)]]
    )
    logits = model(inputs_embeds=inputs[None], use_cache=False).logits[0, len(prefix) + len(vectors) - 1 :]
    each = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(targets), reduction="none")
    loss = each.mean() if weights is None else (each * torch.tensor(weights)).sum()
    (grad,) = torch.autograd.grad(loss, soft)
    return loss.item(), grad.numpy()


def pullback(
    model: Any, prefix: list[int], vectors: np.ndarray, layer: int, normed: bool, by_states: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States of a layer at the vectors' positions, and the gradient by the vectors given that by the states."""
    table = embeddings(model)
    soft = torch.tensor(vectors, requires_grad=True)
    inputs = torch.cat([table[torch.tensor(prefix, dtype=torch.long)], soft])
    seen: list[torch.Tensor] = []
    last = final_norm(model) if layer == model.config.num_hidden_layers else model.model.layers[layer]
    hook = last.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    try:
        model.model(inputs_embeds=inputs[None], use_cache=False)
    finally:
        hook.remove()
    states = seen[0][0]
    states = (final_norm(model)(states) if normed else states)[len(prefix) :]
    (grad,) = torch.autograd.grad(states, soft, torch.tensor(by_states))
    return states.detach().numpy(), grad.numpy()
