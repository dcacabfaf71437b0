"""Random models of real shapes, for measures whose real files need not be fetched: 0.5 B of Qwen2, 896 wide.

Speed does not depend on what weights say. Files are made once, in `.cache/bench`, from a seed.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PLACE = ROOT / ".cache" / "bench"
SEED = 20_260
VOCAB = 151_936
SHAPE = {"width": 896, "mlp": 4864, "layers": 24, "heads": 14, "kv_heads": 2, "head_dim": 64}
ROPE_BASE, NORM_EPS, CONTEXT = 1_000_000.0, 1e-6, 32_768


def dense_folder() -> Path:
    """A safetensors folder in bfloat16, its embedding tied."""
    folder = PLACE / f"dense-bf16-{SEED}"
    return folder if folder.is_dir() else _whole(folder, _write_dense)


def mixed_gguf(donor: Path) -> Path:
    """A GGUF file with the types Q4_K_M falls back to where 256 does not divide a row; the donor lends its tokenizer."""
    path = PLACE / f"mixed-q5_0-q8_0-{SEED}.gguf"
    return path if path.is_file() else _whole(path, lambda part: _write_mixed(part, donor))


def _whole(place: Path, write: Any) -> Path:
    """Write beside the place and rename: a break leaves nothing that looks finished."""
    print(f"writing {place.name}, once", file=sys.stderr, flush=True)
    PLACE.mkdir(parents=True, exist_ok=True)
    part = place.with_name(place.name + ".part")
    if part.is_dir():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)
    write(part)
    part.rename(place)
    return place


def _values(number: int, dims: tuple[int, ...], name: str) -> np.ndarray:
    draw = np.random.default_rng([SEED, number]).standard_normal(dims, dtype=np.float32)
    if "norm" in name:
        return 1 + np.float32(0.1) * draw
    if name.endswith("bias"):
        return np.float32(0.1) * draw
    return draw / np.float32(np.sqrt(dims[-1]))


def _write_dense(folder: Path) -> None:
    import torch
    import transformers
    from safetensors.torch import save_file
    from tests.tiny import tokenizer

    folder.mkdir()
    config = transformers.Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=SHAPE["width"],
        intermediate_size=SHAPE["mlp"],
        num_hidden_layers=SHAPE["layers"],
        num_attention_heads=SHAPE["heads"],
        num_key_value_heads=SHAPE["kv_heads"],
        max_position_embeddings=CONTEXT,
        rms_norm_eps=NORM_EPS,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
        tie_word_embeddings=True,
        bos_token_id=tokenizer().token_to_id("<|endoftext|>"),
        eos_token_id=tokenizer().token_to_id("<|im_end|>"),
        dtype="bfloat16",
        architectures=["Qwen2ForCausalLM"],
    )
    with torch.device("meta"):
        blank = transformers.Qwen2ForCausalLM(config)
    state = {
        name: torch.from_numpy(_values(number, tuple(parameter.shape), name)).to(torch.bfloat16)
        for number, (name, parameter) in enumerate(blank.named_parameters())
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "model_max_length": CONTEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _types(name: str, layer: int) -> str:
    """As `llama-quantize` chooses for Q4_K_M: half of the value and down matrices finer, rows of 896 not in K-quants."""
    finer = layer < SHAPE["layers"] // 8 or layer >= 7 * SHAPE["layers"] // 8 or (layer - SHAPE["layers"] // 8) % 3 == 2
    if name == "ffn_down":
        return "Q6_K" if finer else "Q4_K"
    return "Q8_0" if name == "attn_v" and finer else "Q5_0"


def _write_mixed(path: Path, donor: Path) -> None:
    import gguf
    from tests.tiny import _k_blocks as k_blocks

    width, mlp = SHAPE["width"], SHAPE["mlp"]
    queries, keys = SHAPE["heads"] * SHAPE["head_dim"], SHAPE["kv_heads"] * SHAPE["head_dim"]
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_name("random, 896 wide, Q5_0 and Q8_0")
    writer.add_block_count(SHAPE["layers"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(mlp)
    writer.add_head_count(SHAPE["heads"])
    writer.add_head_count_kv(SHAPE["kv_heads"])
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(NORM_EPS)
    _borrow_tokenizer(writer, donor)
    matrices = {
        "attn_q": (queries, width), "attn_k": (keys, width), "attn_v": (keys, width), "attn_output": (width, queries),
        "ffn_gate": (mlp, width), "ffn_up": (mlp, width), "ffn_down": (width, mlp),
    }  # fmt: skip
    rows: list[tuple[str, tuple[int, ...], str]] = [
        ("token_embd.weight", (VOCAB, width), "Q8_0"),
        ("output_norm.weight", (width,), "F32"),
    ]
    for layer in range(SHAPE["layers"]):
        at = f"blk.{layer}."
        rows += [(at + f"{name}.weight", (width,), "F32") for name in ("attn_norm", "ffn_norm")]
        rows += [(at + f"attn_{x}.bias", (n,), "F32") for x, n in (("q", queries), ("k", keys), ("v", keys))]
        rows += [(at + f"{name}.weight", dims, _types(name, layer)) for name, dims in matrices.items()]
    for number, (name, dims, qtype) in enumerate(rows):
        kind = gguf.GGMLQuantizationType[qtype]
        if qtype.endswith("_K"):  # gguf reads these types and does not write them
            data = k_blocks(kind, dims[0], dims[1], 1 / float(np.sqrt(dims[1])), SEED + number)
            writer.add_tensor(name, data, raw_dtype=kind)
        elif qtype == "F32":
            writer.add_tensor(name, _values(number, dims, name))
        else:
            writer.add_tensor(name, gguf.quants.quantize(_values(number, dims, name), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _borrow_tokenizer(writer: Any, donor: Path) -> None:
    """Copy every `tokenizer.` field; the donor's vocabulary is Qwen's, as many tokens as our embedding has rows."""
    import gguf

    reader = gguf.GGUFReader(str(donor))
    tokens = len(reader.fields["tokenizer.ggml.tokens"].data)
    if tokens != VOCAB:
        raise SystemExit(f"{donor.name} has {tokens} tokens, and the random model {VOCAB} rows: give a Qwen2.5 file")
    for key, found in reader.fields.items():
        if key.startswith("tokenizer."):
            kind, *inner = found.types
            writer.add_key_value(key, found.contents(), kind, inner[-1] if inner else None)
