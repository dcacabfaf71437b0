"""Tiny models with every parameter random: small enough for a test, rich enough that no term can be forgotten.

`make_tiny` writes a Hugging Face safetensors folder, `make_tiny_gguf` a GGUF file. Widths, heads and vocabulary are
chosen so that shortcuts show: head size other than width / heads, grouped heads, a vocabulary padded past the
tokenizer, a rope base that is nobody's default.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

VOCAB = 512  # rows of the embedding; the tokenizer knows fewer, as Qwen's does
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Qwen2's pre-tokenizer: contractions, words, single digits, punctuation, line ends, spaces.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = """The engine reads text, makes tokens and vectors, and the vectors go through every layer to the head.
Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did
Natalia sell altogether in April and May? In April she sold 48 clips, in May 48 / 2 = 24 clips, so 48 + 24 = 72.
A sentence about hidden states, another about edges, and a third one about the weather: it rains on the old bridge."""
SHAPES: dict[str, dict[str, int]] = {
    "qwen2": {"width": 64, "heads": 4, "kv_heads": 2, "head_dim": 24, "mlp": 160},
    "qwen3": {"width": 96, "heads": 4, "kv_heads": 1, "head_dim": 32, "mlp": 224},
    "llama": {"width": 80, "heads": 5, "kv_heads": 1, "head_dim": 24, "mlp": 144},
    "mistral": {"width": 80, "heads": 4, "kv_heads": 2, "head_dim": 24, "mlp": 144},
    "phi2": {"width": 96, "heads": 4, "kv_heads": 4, "head_dim": 24, "mlp": 200},
    "gemma3": {"width": 64, "heads": 4, "kv_heads": 2, "head_dim": 24, "mlp": 160},
    "llama3": {"width": 80, "heads": 5, "kv_heads": 1, "head_dim": 24, "mlp": 144},
    "yarn": {"width": 64, "heads": 4, "kv_heads": 2, "head_dim": 24, "mlp": 160},
}
WINDOW = 100  # positions that a row of mistral and of most layers of gemma3 sees
FAMILY = {"llama3": "llama", "yarn": "qwen2"}  # models of a family whose rotation is stretched
CLASSES = {
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "llama": "Llama",
    "mistral": "Mistral",
    "phi2": "Phi",
    "gemma3": "Gemma3Text",
}
# In a GGUF, rows of a 32-block type must divide by 32 and not by 256 (Qwen 0.5B is 896 wide); K-quants need 256.
GGUF_32 = {"width": 160, "heads": 5, "kv_heads": 1, "head_dim": 32, "mlp": 288}
GGUF_256 = {"width": 256, "heads": 8, "kv_heads": 2, "head_dim": 32, "mlp": 512}
ROPE_BASE = 25_000.0
NORM_EPS = 3e-6


@functools.cache
def tokenizer() -> Any:
    """A byte-level BPE of some 400 tokens with three special ones, built like Qwen's `tokenizer.json`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(byte_fallback=False, fuse_unk=False))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 12 - len(SPECIAL),
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator([CORPUS], trainer)
    made.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    return made


def _random(
    seed: int, shape: tuple[int, ...], kind: str, width: int, gain: float = 1.0, spread: float = 1.2
) -> np.ndarray:
    """Values for one parameter: matrices of some gain, norms around one, plain biases, logits of about that spread."""
    draw = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if kind == "norm":
        return 1 + 0.25 * draw
    if kind == "bias":
        return 0.3 * draw
    if kind == "table":
        return (spread / np.sqrt(width)).astype(np.float32) * draw
    if kind == "sharp":  # queries and keys: attention that selects instead of averaging
        gain *= 1.6
    return (gain / np.sqrt(shape[-1])).astype(np.float32) * draw


def _kind(name: str) -> str:
    if "norm" in name and not name.endswith("bias"):
        return "norm"
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        return "table"
    if name.endswith("bias"):
        return "bias"
    return "sharp" if ".q_proj" in name or ".k_proj" in name else "matrix"


def _config(arch: str, shape: dict[str, int], layers: int, context: int, tied: bool) -> Any:
    import transformers

    end = tokenizer().token_to_id("<|im_end|>")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": ROPE_BASE}
    own: dict[str, Any] = {"rms_norm_eps": NORM_EPS, "head_dim": shape["head_dim"]}
    if arch == "llama3":
        rope |= {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        rope |= {"original_max_position_embeddings": 256}
    elif arch == "yarn":
        rope |= {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    elif arch == "mistral":
        own["sliding_window"] = WINDOW
    elif arch == "phi2":
        rope["partial_rotary_factor"] = 0.5
        own = {"layer_norm_eps": NORM_EPS, "hidden_act": "gelu_new", "resid_pdrop": 0.0}
    elif arch == "gemma3":
        local = {"rope_type": "default", "rope_theta": 500.0}
        rope = {"full_attention": {**rope, "rope_type": "linear", "factor": 2.0}, "sliding_attention": local}
        kinds = ["sliding_attention", "sliding_attention", "full_attention"]
        own |= {"sliding_window": WINDOW, "query_pre_attn_scalar": 20, "layer_types": (kinds * layers)[:layers]}
    return getattr(transformers, CLASSES[FAMILY.get(arch, arch)] + "Config")(
        vocab_size=VOCAB,
        hidden_size=shape["width"],
        intermediate_size=shape["mlp"],
        num_hidden_layers=layers,
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=context,
        rope_parameters=rope,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer().token_to_id("<|endoftext|>"),
        eos_token_id=end,
        **own,
    )


def make_tiny(
    arch: str,
    folder: Path | str,
    seed: int = 0,
    *,
    sharded: bool = False,
    tied: bool = True,
    layers: int = 4,
    context: int = 2048,
    dtype: str = "float32",
    gain: float = 1.0,
    spread: float = 1.2,
    **shape: int,
) -> Path:
    """A safetensors folder of a random `arch` (a key of `SHAPES`) with tokenizer, chat template and end ids.

    A loop that feeds a model of gain 1 its own states is chaotic: float32 and float64 part after twenty steps. A
    gain of 0.4 makes it calm, so that a loop of 32 steps has one answer.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(arch, {**SHAPES[arch], **shape}, layers, context, tied)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for number, (name, parameter) in enumerate(model.named_parameters()):
            kind, width = _kind(name), config.hidden_size
            values = _random(1000 * seed + number, tuple(parameter.shape), kind, width, gain, spread)
            if arch == "gemma3" and kind == "norm":  # its norms hold weights less 1
                values -= 1
            parameter.copy_(torch.from_numpy(values))
        ids = torch.from_numpy(np.random.default_rng(seed).integers(0, VOCAB, (1, 256)))
        deviation = float(model.eval()(input_ids=ids).logits.std())
    if deviation < 1.0:
        raise AssertionError(f"logits of the tiny {arch} deviate by {deviation:.2f}; a test on them would prove little")
    end = [tokenizer().token_to_id("<|im_end|>"), tokenizer().token_to_id("<|endoftext|>")]
    model.generation_config = transformers.GenerationConfig(eos_token_id=end, bos_token_id=end[1])
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="200KB" if sharded else "1GB")
    tokenizer().save(str(folder / "tokenizer.json"))
    facts = {
        "tokenizer_class": "Qwen2Tokenizer",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "add_prefix_space": False,
        "chat_template": TEMPLATE,
        "model_max_length": context,
        "added_tokens_decoder": {
            str(tokenizer().token_to_id(text)): {"content": text, "special": True, "normalized": False}
            for text in SPECIAL
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(facts, indent=1))
    return folder


def _k_blocks(kind: Any, rows: int, columns: int, deviation: float, seed: int) -> np.ndarray:
    """Random but valid Q4_K, Q5_K or Q6_K blocks `(rows, bytes)`; gguf can read these types and not write them."""
    from gguf import GGML_QUANT_SIZES
    from gguf.quants import dequantize

    values, size = GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (rows * columns // values, size), dtype=np.uint8)
    largest = 31 if kind.name == "Q5_K" else 15  # centre of the quants is half of it: minimum scale cancels the mean

    def fill(scale: float) -> None:
        each = (scale * random.uniform(0.5, 1.5, (len(blocks), 1))).astype(np.float16)
        if kind.name == "Q6_K":
            blocks[:, -2:] = each.view(np.uint8)
        else:
            blocks[:, 0:2] = each.view(np.uint8)
            blocks[:, 2:4] = (each * np.float16(largest / 2)).astype(np.float16).view(np.uint8)

    fill(1e-2)
    table = blocks.reshape(rows, -1)
    fill(1e-2 * deviation / float(dequantize(table, kind).std()))
    return table


def _gguf_tensors(arch: str, shape: dict[str, int], layers: int, tied: bool) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, kind and `[out, in]` shape of every tensor."""
    width, mlp = shape["width"], shape["mlp"]
    queries, keys = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    rows = [("token_embd.weight", "table", (VOCAB, width)), ("output_norm.weight", "norm", (width,))]
    if not tied:
        rows.append(("output.weight", "table", (VOCAB, width)))
    for layer in range(layers):
        at = f"blk.{layer}."
        rows += [(at + "attn_norm.weight", "norm", (width,)), (at + "ffn_norm.weight", "norm", (width,))]
        rows += [(at + f"attn_{x}.weight", "matrix", (n, width)) for x, n in (("q", queries), ("k", keys), ("v", keys))]
        rows += [(at + "attn_output.weight", "matrix", (width, queries))]
        rows += [(at + f"ffn_{x}.weight", "matrix", (mlp, width)) for x in ("gate", "up")]
        rows += [(at + "ffn_down.weight", "matrix", (width, mlp))]
        if arch == "qwen2":
            rows += [(at + f"attn_{x}.bias", "bias", (n,)) for x, n in (("q", queries), ("k", keys), ("v", keys))]
        if arch == "qwen3":
            rows += [(at + f"attn_{x}_norm.weight", "norm", (shape["head_dim"],)) for x in "qk"]
    return rows


def make_tiny_gguf(
    arch: str,
    path: Path | str,
    qtype: str,
    seed: int = 0,
    *,
    tied: bool = True,
    layers: int = 3,
    context: int = 1024,
    pre: str = "qwen2",
    add_bos: bool | None = False,
    template: str | list[dict[str, str]] = TEMPLATE,
) -> Path:
    """A GGUF file whose matrices, embedding included, are of `qtype` (a name of `gguf.GGMLQuantizationType`).

    `pre` cuts words, `add_bos` says whether texts begin with `<|endoftext|>` (None: not a word of it), `template` is one
    or a list of `{name, template}`.
    """
    import gguf

    kind = gguf.GGMLQuantizationType[qtype]
    shape = GGUF_256 if qtype.endswith("_K") else GGUF_32
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_name(f"tiny {arch} {qtype}")
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(shape["width"])
    writer.add_feed_forward_length(shape["mlp"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(NORM_EPS)
    writer.add_vocab_size(VOCAB)
    _gguf_tokenizer(writer, gguf, pre, add_bos, template)
    for number, (name, role, dims) in enumerate(_gguf_tensors(arch, shape, layers, tied)):
        place = 1000 * seed + number
        if role in ("norm", "bias"):
            writer.add_tensor(name, _random(place, dims, role, shape["width"]))
        elif qtype.endswith("_K"):
            deviation = (2.0 if role == "table" else 1.2) / float(np.sqrt(dims[-1]))
            writer.add_tensor(name, _k_blocks(kind, dims[0], dims[1], deviation, place), raw_dtype=kind)
        else:
            values = _random(place, dims, role, shape["width"])
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def _gguf_tokenizer(writer: Any, gguf: Any, pre: str, add_bos: bool | None, template: Any) -> None:
    described = json.loads(tokenizer().to_str())
    by_id = {number: text for text, number in tokenizer().get_vocab(with_added_tokens=True).items()}
    special = {tokenizer().token_to_id(text) for text in SPECIAL}
    types = gguf.TokenType
    kinds = [types.CONTROL if i in special else types.NORMAL if i in by_id else types.UNUSED for i in range(VOCAB)]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in described["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([by_id.get(number, f"[PAD{number}]") for number in range(VOCAB)])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer().token_to_id("<|im_end|>"))
    writer.add_bos_token_id(tokenizer().token_to_id("<|endoftext|>"))
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    writer.add_chat_template(template)
