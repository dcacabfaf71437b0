"""A safetensors folder as a GGUF file: the same weights under the other names, as llama.cpp's own converter would write them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.final_layernorm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.dense": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
ARCHES = {"mistral": "llama", "llama3": "llama", "yarn": "qwen2"}


def gguf_of(arch: str, folder: Path, path: Path, qtype: str = "F32", joined: bool = False) -> Path:
    """Writes the folder of :func:`tests.tiny.make_tiny`; `joined` puts queries, keys and values into one tensor."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    name = ARCHES.get(arch, arch)
    writer = gguf.GGUFWriter(str(path), name)
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    _numbers(writer, gguf, arch, config, head_dim)
    tiny._gguf_tokenizer(writer, gguf, "qwen2", False, tiny.TEMPLATE)
    kind = gguf.GGMLQuantizationType[qtype]
    made: dict[str, np.ndarray] = {}
    for full, rows in tensors.items():
        stem, _, last = full.rpartition(".")
        layer, place = None, stem
        if stem.startswith("model.layers."):
            _, _, layer, place = stem.split(".", 3)
        short = (GEMMA if arch == "gemma3" else {}).get(place) or NAMES[place]
        if name == "llama" and short in ("attn_q", "attn_k"):
            rows = _neighbours(rows, heads if short == "attn_q" else groups)
        if arch == "gemma3" and short.endswith("norm"):
            rows = rows + 1
        made[f"{short}.{last}" if layer is None else f"blk.{layer}.{short}.{last}"] = rows.astype(np.float32)
    if arch == "llama3":
        made["rope_freqs.weight"] = _divisors(config["rope_parameters"], head_dim)
    if joined:
        made = _joined(made)
    for each, rows in made.items():
        if rows.ndim == 2 and qtype != "F32":
            writer.add_tensor(each, gguf.quants.quantize(rows, kind), raw_dtype=kind)
        else:
            writer.add_tensor(each, np.ascontiguousarray(rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _numbers(writer: Any, gguf: Any, arch: str, config: dict[str, Any], head_dim: int) -> None:
    writer.add_name(f"tiny {arch}")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_vocab_size(config["vocab_size"])
    rope = config["rope_parameters"]
    whole = rope.get("full_attention", rope)
    writer.add_rope_freq_base(whole["rope_theta"])
    if arch == "phi2":
        writer.add_layer_norm_eps(config["layer_norm_eps"])
        writer.add_rope_dimension_count(int(head_dim * rope["partial_rotary_factor"]))
        writer.add_add_bos_token(False)
        return
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if arch != "gemma3":
        writer.add_rope_dimension_count(head_dim)
    if arch == "gemma3":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(whole["factor"])
    if arch == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys so that neighbours rotate together."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _divisors(rope: dict[str, Any], head_dim: int) -> np.ndarray:
    """What Llama 3 divides each frequency by."""
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    found = []
    for i in range(head_dim // 2):
        length = 2 * math.pi * rope["rope_theta"] ** (2 * i / head_dim)
        if length < high:
            found.append(1.0)
        elif length > low:
            found.append(rope["factor"])
        else:
            smooth = (rope["original_max_position_embeddings"] / length - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            found.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(found, dtype=np.float32)


def _joined(made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    whole: dict[str, np.ndarray] = {}
    for name, rows in made.items():
        if ".attn_q." in name:
            parts = [made[name.replace("attn_q", f"attn_{part}")] for part in "qkv"]
            whole[name.replace("attn_q", "attn_qkv")] = np.concatenate(parts)
        elif ".attn_k." not in name and ".attn_v." not in name:
            whole[name] = rows
    return whole
