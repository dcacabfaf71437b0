"""Options as other libraries spell them, and the errors that name ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from densecore.errors import OptionError

LOADING = ("backend", "context", "kv", "exact", "cache_bytes", "max_memory", "prefix_bytes", "queue", "queue_seconds",
           "offline", "progress")  # fmt: skip
"""The options of ``Model.load``."""

_CPU = "the engine computes on the CPU; leave it out, or give backend=densecore.CPU(threads=...)"
_THREADS = "give backend=densecore.CPU(threads=...) to Model.load"
_WEIGHTS = "weights are used as the file holds them; Model.load(..., exact=True) computes in float32"
_NAME = "the name, hub id or path is the first argument of densecore.Model.load"
_PROMPT = "the prompt, text or messages, is the first argument"
_BEAMS = "there is no beam search; draw several answers and choose among them"
_FORM = "give form=densecore.Json(...), Regex, Choice or Lark"
_CODE = "no code of a model's is ever run; leave it out"

OURS: dict[str, tuple[str, ...]] = {
    "max_tokens": (
        "max_new_tokens", "max_length", "max_gen_len", "max_output_tokens", "max_completion_tokens", "n_predict",
        "num_predict",
    ),
    "temperature": ("temp",),
    "top_k": ("topk",),
    "top_p": ("topp",),
    "min_p": ("minp",),
    "n": ("num_return_sequences", "num_samples", "best_of"),
    "seed": ("random_seed", "random_state", "generator"),
    "stop": ("stop_strings", "stop_sequences", "stop_words", "stops"),
    "stop_token_ids": ("eos_token_id",),
    "min_tokens": ("min_new_tokens", "min_length"),
    "repetition_penalty": ("repeat_penalty",),
    "presence_penalty": ("present_penalty",),
    "frequency_penalty": ("freq_penalty",),
    "logprobs": ("top_logprobs", "output_scores", "output_logits"),
    "context": ("n_ctx", "num_ctx", "ctx_size", "context_length", "max_model_len", "max_seq_len", "max_seq_length",
                "n_positions"),
    "kv": ("type_k", "type_v", "cache_type_k", "kv_cache_dtype", "cache_dtype"),
    "max_memory": ("max_memory_bytes", "memory"),
    "queue": ("max_num_seqs", "max_concurrent_requests"),
    "offline": ("local_files_only",),
    "progress": ("progress_bar", "show_progress"),
}  # fmt: skip
"""Our options, and the same elsewhere."""

ADVICE: dict[str, str] = {
    "do_sample": "temperature=1.0 draws, temperature=0, the default, takes the likeliest token",
    "num_beams": _BEAMS, "use_beam_search": _BEAMS, "early_stopping": _BEAMS, "length_penalty": _BEAMS,
    "grammar": _FORM, "response_format": _FORM, "guided_json": _FORM, "json_schema": _FORM, "guided_regex": _FORM,
    "stream": "call the method stream(...) instead of generate(...)",
    "streamer": "call the method stream(...) instead of generate(...)",
    "stopping_criteria": "give stop=[...] for texts, or cancel=densecore.Cancel() to stop from outside",
    "skip_special_tokens": "Generation.text leaves them out; Model.detokenize(ids) writes them",
    "use_cache": "keys and values are always kept; leave it out",
    "messages": _PROMPT, "input_ids": "give token ids as densecore.Ids([...]), the first argument",
    "inputs": _PROMPT, "inputs_embeds": "give vectors as the prompt, the first argument", "prompts": _PROMPT,
    "num_threads": _THREADS, "n_threads": _THREADS, "n_threads_batch": _THREADS, "threads": _THREADS,
    "n_gpu_layers": _CPU, "gpu_layers": _CPU, "device": _CPU, "device_map": _CPU, "main_gpu": _CPU,
    "tensor_parallel_size": _CPU, "gpu_memory_utilization": _CPU, "attn_implementation": _CPU,
    "torch_dtype": _WEIGHTS, "dtype": _WEIGHTS, "load_in_8bit": _WEIGHTS, "load_in_4bit": _WEIGHTS,
    "quantization": _WEIGHTS, "quantization_config": _WEIGHTS,
    "model": _NAME, "model_path": _NAME, "model_name": _NAME, "model_id": _NAME, "repo_id": _NAME,
    "filename": _NAME, "path": _NAME, "pretrained_model_name_or_path": _NAME,
    "trust_remote_code": _CODE,
    "use_mmap": "files are always mapped; leave it out",
    "n_batch": "prompts are read in pieces of the engine's choice; leave it out",
    "cache_dir": "set the environment variable DENSECORE_CACHE",
    "verbose": "call densecore.trace() once",
}  # fmt: skip
"""What has no counterpart of another name, and what to do instead."""

_SPELT = {other: ours for ours, others in OURS.items() for other in others}
FOREIGN = _SPELT.keys() | ADVICE.keys()
"""All names of others."""


def refuse(
    call: str, given: Iterable[str], known: Iterable[str], elsewhere: Mapping[str, Iterable[str]] | None = None
) -> None:
    """Raise the error of the first option that a call does not have, if there is one.

    Args:
        call: As its caller wrote it.
        given: The options it got.
        known: Those it has.
        elsewhere: Other calls, and the options they have.

    >>> refuse("generate", ["max_new_tokens"], ["max_tokens", "top_k"])
    Traceback (most recent call last):
    densecore.errors.OptionError: generate has no option max_new_tokens: it is max_tokens here
    >>> refuse("generate", ["n_ctx"], ["max_tokens"], {"Model.load": ["context"]})
    Traceback (most recent call last):
    densecore.errors.OptionError: generate has no option n_ctx: give context to Model.load
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise OptionError(f"{call} has no option {name}: {_hint(name, names, elsewhere or {})}")


def _hint(name: str, known: list[str], elsewhere: Mapping[str, Iterable[str]]) -> str:
    ours = _SPELT.get(name, name)
    if ours in known:
        return f"it is {ours} here"
    for call, options in elsewhere.items():
        if ours in options:
            return f"give {ours} to {call}"
    if name in ADVICE:
        return ADVICE[name]
    from difflib import get_close_matches  # kept out of the package's import time

    close = get_close_matches(name, known, 1, 0.7)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
