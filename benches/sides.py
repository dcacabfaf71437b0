"""The sides of `compare.py`, each in a process of its own: `python benches/sides.py <side> <file> <threads>`.

A worker reads one JSON request a line and answers with one JSON line, seconds for the work asked. Prompts are fresh
random ids every time, so that no cache of prefixes makes a prefill look fast.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PROMPT = 128  # positions before a decode
STARTUP_TOKENS = 16


def draw(seed: int, length: int) -> list[int]:
    """Ids of ordinary tokens; every catalogue vocabulary has at least 20,000."""
    return np.random.default_rng(seed).integers(1000, 20_000, length).tolist()


class DenseCore:
    """Prefill and decode through the Python API."""

    def __init__(self, path: Path, threads: int, context: int) -> None:
        import densecore

        self.ids = densecore.Ids
        self.model = densecore.Model.load(path, backend=densecore.CPU(threads=threads), context=context, prefix_bytes=0)
        self.long: Any = None

    def prefill(self, length: int, seed: int) -> float:
        """Every position, and the logits of the last one."""
        ids = self.ids(draw(seed, length))
        started = time.perf_counter()
        self.model.generate(ids, max_tokens=1, ignore_eos=True)
        return time.perf_counter() - started

    def decode(self, sequences: int, length: int, tokens: int, seed: int) -> float:
        """Tokens after the prompt. Of several sequences the time to their first tokens is taken off."""
        if length > PROMPT:
            if self.long is None:
                self.long = self.model.prefill(self.ids(draw(seed, length)))
            context = self.long.fork()
        elif sequences == 1:
            context = self.model.prefill(self.ids(draw(seed, length)))
        else:
            return self._batch(sequences, length, tokens, seed)
        started = time.perf_counter()
        context.generate(max_tokens=tokens, ignore_eos=True)
        return time.perf_counter() - started

    def _batch(self, sequences: int, length: int, tokens: int, seed: int) -> float:
        seconds = []
        for limit, start in ((1, 0), (tokens, 500_000)):
            prompts = [[self.ids(draw(1000 * seed + start + row, length))] for row in range(sequences)]
            started = time.perf_counter()
            made = self.model.generate(prompts, max_tokens=limit, ignore_eos=True)
            seconds.append(time.perf_counter() - started)
            if any(len(one.ids) != limit for one in made):
                raise RuntimeError(f"a sequence ended before its {limit} tokens")
        return seconds[1] - seconds[0]


class LlamaCpp:
    """llama.cpp through its low-level API, as its own batched bench does it; sampling is an arg-max."""

    def __init__(self, path: Path, threads: int, context: int, sequences: int = 1) -> None:
        import llama_cpp.llama_cpp as api

        self.api, self.threads, self.context, self.rows = api, threads, context, 0
        silent = api.llama_log_callback(lambda *_: None)
        self.silent = silent  # kept: C calls it as long as the library lives
        api.llama_log_set(silent, None)
        api.llama_backend_init()
        options = api.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = api.llama_model_load_from_file(str(path).encode(), options)
        self.vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.state: Any = None
        self.long = False
        self._open(sequences)

    def _open(self, sequences: int) -> None:
        if self.rows == sequences:
            return
        if self.state is not None:
            self.api.llama_free(self.state)
        options = self.api.llama_context_default_params()
        options.n_ctx = self.context if sequences == 1 else sequences * 256
        options.n_batch, options.n_ubatch, options.n_seq_max = 2048, 512, sequences
        options.n_threads = options.n_threads_batch = self.threads
        self.state, self.rows, self.long = self.api.llama_init_from_model(self.model, options), sequences, False
        self.batch = self.api.llama_batch_init(2048, 0, 1)

    def _run(self, cells: list[tuple[int, int, int, bool]]) -> None:
        """One `llama_decode` of (id, position, sequence, wants logits)."""
        self.batch.n_tokens = len(cells)
        for place, (number, position, row, wanted) in enumerate(cells):
            self.batch.token[place], self.batch.pos[place] = number, position
            self.batch.n_seq_id[place], self.batch.seq_id[place][0] = 1, row
            self.batch.logits[place] = wanted
        if self.api.llama_decode(self.state, self.batch):
            raise RuntimeError("llama.cpp could not decode")

    def _best(self, place: int) -> int:
        pointer = self.api.llama_get_logits_ith(self.state, place)
        return int(np.ctypeslib.as_array(pointer, (self.vocab,)).argmax())

    def _fill(self, ids: list[int], row: int = 0) -> int:
        for start in range(0, len(ids), 2048):
            piece = ids[start : start + 2048]
            last = start + len(piece) == len(ids)
            self._run([(n, start + i, row, last and i + 1 == len(piece)) for i, n in enumerate(piece)])
        return self._best(len(piece) - 1)

    def _clear(self) -> None:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.state), True)
        self.long = False

    def prefill(self, length: int, seed: int) -> float:
        """Every position, and the logits of the last one."""
        self._open(1)
        self._clear()
        started = time.perf_counter()
        self._fill(draw(seed, length))
        return time.perf_counter() - started

    def decode(self, sequences: int, length: int, tokens: int, seed: int) -> float:
        """Tokens after the prompt: the first comes from the prompt's logits, each other from one step."""
        self._open(sequences)
        if length > PROMPT and self.long:
            self.api.llama_memory_seq_rm(self.api.llama_get_memory(self.state), 0, length - 1, -1)
            best = [draw(seed, 1)[0]]
            self._run([(best[0], length - 1, 0, True)])
        else:
            self._clear()
            best = [self._fill(draw(1000 * seed + row, length), row) for row in range(sequences)]
            self.long = length > PROMPT
        started = time.perf_counter()
        for step in range(tokens - 1):
            self._run([(best[row], length + step, row, True) for row in range(sequences)])
            best = [self._best(row) for row in range(sequences)]
        return time.perf_counter() - started


class Transformers:
    """PyTorch with the file's weights dequantised to bfloat16: there is no quantised kernel for a CPU in it."""

    def __init__(self, path: Path, threads: int, context: int) -> None:
        import torch

        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from tests.golden.reference import model_from_gguf

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = model_from_gguf(path).to(torch.bfloat16)

    def _fill(self, rows: list[list[int]]) -> Any:
        return self.model(input_ids=self.torch.tensor(rows), use_cache=True, logits_to_keep=1)

    def prefill(self, length: int, seed: int) -> float:
        """Every position, and the logits of the last one."""
        started = time.perf_counter()
        with self.torch.inference_mode():
            self._fill([draw(seed, length)])
        return time.perf_counter() - started

    def decode(self, sequences: int, length: int, tokens: int, seed: int) -> float:
        """Tokens after the prompt, with the key-value cache."""
        with self.torch.inference_mode():
            out = self._fill([draw(1000 * seed + row, length) for row in range(sequences)])
            started = time.perf_counter()
            for _ in range(tokens - 1):
                best = out.logits[:, -1].argmax(dim=-1, keepdim=True)
                out = self.model(input_ids=best, past_key_values=out.past_key_values, use_cache=True)
            return time.perf_counter() - started


SIDES: dict[str, Any] = {"densecore": DenseCore, "llama.cpp": LlamaCpp, "transformers": Transformers}


def peak_mib() -> float:
    """Peak resident memory of this process."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(name: str, path: Path, threads: int, context: int) -> None:
    """Answer requests until the input ends."""
    side = SIDES[name](path, threads, context)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"seconds": getattr(side, request.pop("call"))(**request)}), flush=True)


def first_id(name: str, path: Path, threads: int) -> None:
    """Load, and the first id of a short prompt: for the measure of a fresh process."""
    SIDES[name](path, threads, 512).prefill(STARTUP_TOKENS, 1)
    print("id", flush=True)


def use_memory(name: str, path: Path, threads: int) -> None:
    """512 prompt and 64 answer tokens in one process, then its peak."""
    SIDES[name](path, threads, 1024).decode(1, 512, 64, 1)
    print("peak", peak_mib(), flush=True)


if __name__ == "__main__":
    what, given, file, count, *more = sys.argv[1:]
    if what == "serve":
        serve(given, Path(file), int(count), int(more[0]))
    elif what == "first":
        first_id(given, Path(file), int(count))
    else:
        use_memory(given, Path(file), int(count))
