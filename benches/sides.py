"""The sides of `compare.py`, each in a process of its own: `python benches/sides.py <what> <side> <file> <threads>`.

A worker (`serve`) reads one JSON request a line and answers with one JSON line: the seconds of the work asked, and how
many tokens it did in them. Prompts are fresh random ids every time, so that no cache of prefixes makes a prefill look
fast. `first`, `memory` and `gradient_memory` are processes that do one thing only.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

STARTUP_TOKENS = 16
GRADIENT = {"sequences": 8, "length": 128, "targets": 32}  # the last of each sequence are targets
Answer = dict[str, Any]


def draw(seed: int, length: int) -> list[int]:
    """Ids of ordinary tokens; every vocabulary measured here has at least 20,000."""
    return np.random.default_rng(seed).integers(1000, 20_000, length).tolist()


def texts(seed: int, rows: int, length: int) -> list[list[int]]:
    """Several such texts of one length."""
    return [draw(1000 * seed + row, length) for row in range(rows)]


class DenseCore:
    """Prefill, decode and encode through the Python API."""

    temperature = 1.0  # of `sample`

    def __init__(self, path: Path, threads: int, context: int, prefix_bytes: int | None = 0) -> None:
        import densecore

        self.ids = densecore.Ids
        cpu = densecore.CPU(threads=threads)
        self.model = densecore.Model.load(path, backend=cpu, context=context, prefix_bytes=prefix_bytes)
        self.long: Any = None
        self.filled = 0

    def facts(self) -> Answer:
        """What a result says about this side: the kernels it runs."""
        import densecore

        return {"tier": densecore.hardware().tier}

    def kv_bytes(self, positions: int) -> int:
        """Keys and values of so many positions, in f16."""
        shape = self.model.config
        return 2 * 2 * shape.layers * shape.kv_heads * shape.head_dim * positions

    def prefill(self, length: int, seed: int) -> Answer:
        """Every position, and the logits of the last one."""
        ids = self.ids(draw(seed, length))
        started = time.perf_counter()
        self.model.generate(ids, max_tokens=1, ignore_eos=True)
        return {"seconds": time.perf_counter() - started, "done": length}

    def encode(self, length: int, seed: int) -> Answer:
        """The final states of every position."""
        ids = self.ids(draw(seed, length))
        started = time.perf_counter()
        states = self.model.encode(ids).numpy()
        seconds = time.perf_counter() - started
        if states.shape[0] != length:
            raise RuntimeError(f"{states.shape} states of {length} positions")
        return {"seconds": seconds, "done": length}

    def gradient(self, sequences: int, length: int, targets: int, seed: int) -> Answer:
        """Loss of the last targets and its gradient by the vectors before them; every position is computed."""
        vectors = [self.model.embed(self.ids(ids)) for ids in texts(seed, sequences, length - targets + 1)]
        wanted = texts(seed + 500, sequences, targets)
        started = time.perf_counter()
        found = self.model.loss_and_grad(None, vectors, wanted)
        seconds = time.perf_counter() - started
        if any(one.usage.positions != length for one in found):
            raise RuntimeError(f"{[one.usage.positions for one in found]} instead of {length} positions were computed")
        return {"seconds": seconds, "done": sequences * length}

    def decode(self, sequences: int, length: int, tokens: int, seed: int) -> Answer:
        """Tokens after the prompt; the first of one sequence comes from the prompt's logits and is not counted."""
        if sequences > 1:
            return self._batch(sequences, length, tokens, seed)
        if length > 2048:  # read once: what follows leaves it as it is
            if self.long is None:
                self.long = self.model.prefill(self.ids(draw(seed, length)))
            context = self.long.fork()
        else:
            context = self.model.prefill(self.ids(draw(seed, length)))
        started = time.perf_counter()
        made = context.generate(max_tokens=tokens, ignore_eos=True)
        seconds = time.perf_counter() - started
        return self._checked([made], tokens, seconds, tokens - 1)

    def sample(self, sequences: int, length: int, tokens: int, seed: int) -> Answer:
        """Tokens of a batch, drawn from the whole vocabulary."""
        return self._batch(sequences, length, tokens, seed, temperature=self.temperature, seed_of_draws=seed)

    def _batch(
        self, sequences: int, length: int, tokens: int, seed: int,
        temperature: float = 0.0, seed_of_draws: int | None = None,
    ) -> Answer:  # fmt: skip
        """The prompts but for their last id lie in kept blocks, so that every step is a step of the decode."""
        kept = [draw(1000 + row, length) for row in range(sequences)]
        if self.filled < sequences:
            self.model.generate([[self.ids([*ids, 1000])] for ids in kept], max_tokens=1, ignore_eos=True)
            self.filled = sequences
        prompts = [[self.ids([*ids, last])] for ids, last in zip(kept, draw(seed, sequences), strict=True)]
        started = time.perf_counter()
        made = self.model.generate(
            prompts, max_tokens=tokens, ignore_eos=True, temperature=temperature, seed=seed_of_draws
        )
        seconds = time.perf_counter() - started
        if any(one.usage.cached_positions != length for one in made):
            raise RuntimeError(f"{[one.usage.cached_positions for one in made]} of {length} positions were kept")
        return self._checked(made, tokens, seconds, tokens * sequences)

    def _checked(self, made: list[Any], tokens: int, seconds: float, done: int) -> Answer:
        if any(len(one.ids) != tokens for one in made):
            raise RuntimeError(f"a sequence ended before its {tokens} tokens")
        return {"seconds": seconds, "done": done}


class Greedy(DenseCore):
    """The same, taking the likeliest token where the other side draws."""

    temperature = 0.0


class LlamaCpp:
    """llama.cpp through its low-level API, as its own batched bench does it; sampling is an arg-max."""

    def __init__(self, path: Path, threads: int, context: int) -> None:
        import llama_cpp.llama_cpp as api

        self.api, self.path, self.threads, self.context = api, path, threads, context
        silent = api.llama_log_callback(lambda *_: None)
        self.silent = silent  # kept: C calls it as long as the library lives
        api.llama_log_set(silent, None)
        api.llama_backend_init()
        self.model: Any = None
        self.state: Any = None
        self.settings: dict[str, Any] = {}  # of the context that is open; empty leaves the library's own choice
        self.opened: tuple[Any, ...] = ()
        self.repack: bool | None = None
        self.filled = 0  # positions before a decode that the context holds
        self._load(True)

    def facts(self) -> Answer:
        """What a result says about this side: the instructions its library was compiled for."""
        return {"system": self.api.llama_print_system_info().decode(), "library": self._library()}

    def _library(self) -> str:
        """The folder of the CPU library that is loaded in truth, `site-packages` or one of `.cache/peers`."""
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines() if sys.platform == "linux" else []
        found = {Path(line.split(maxsplit=5)[5]) for line in lines if "libggml-cpu" in line}
        return ", ".join(sorted(path.parents[2].name for path in found))

    def _load(self, repack: bool) -> None:
        if self.repack == repack:
            return
        self._close()
        if self.model is not None:
            self.api.llama_model_free(self.model)
        options = self.api.llama_model_default_params()
        options.n_gpu_layers = 0
        options.use_extra_bufts = repack  # weights rearranged for wide instructions, the default
        self.model = self.api.llama_model_load_from_file(str(self.path).encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp could not load {self.path}")
        self.vocab = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(self.model))
        self.repack = repack

    def _close(self) -> None:
        if self.state is not None:
            self.api.llama_free(self.state)
            self.api.llama_batch_free(self.batch)
        self.state, self.opened = None, ()

    def configure(self, **settings: Any) -> Answer:
        """Settings of the work that follows: `flash`, `unified`, `ubatch`, `repack`."""
        self.settings = settings
        return {"seconds": 1.0, "done": 0}

    def _open(self, sequences: int, positions: int) -> None:
        given = self.settings
        room = positions if sequences == 1 else sequences * max(256, positions)
        wanted = (sequences, room, *sorted(given.items()))
        if self.opened == wanted:
            return
        self._close()
        self._load(given.get("repack", True))
        options = self.api.llama_context_default_params()
        options.n_ctx, options.n_seq_max = room, sequences
        options.n_ubatch = given.get("ubatch", 512)
        options.n_batch = max(2048, options.n_ubatch)
        options.n_threads = options.n_threads_batch = self.threads
        if "flash" in given:
            options.flash_attn_type = int(given["flash"])
        if "unified" in given:
            options.kv_unified = given["unified"]
        self.state = self.api.llama_init_from_model(self.model, options)
        if not self.state:
            raise RuntimeError(f"llama.cpp gave no context for {sequences} sequences with {given}")
        self.batch = self.api.llama_batch_init(2048, 0, 1)
        self.opened, self.filled = wanted, 0

    def kv_bytes(self, positions: int) -> int:
        """Keys and values of so many positions, in f16."""
        api = self.api
        heads, key_heads = api.llama_model_n_head(self.model), api.llama_model_n_head_kv(self.model)
        width = api.llama_model_n_embd(self.model) // heads * key_heads
        return 2 * 2 * api.llama_model_n_layer(self.model) * width * positions

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

    def _fill(self, ids: list[int]) -> int:
        """One prompt into sequence 0; the id that follows it."""
        for start in range(0, len(ids), 2048):
            piece = ids[start : start + 2048]
            last = start + len(piece) == len(ids)
            self._run([(n, start + i, 0, last and i + 1 == len(piece)) for i, n in enumerate(piece)])
        return self._best(len(piece) - 1)

    def _memory(self) -> Any:
        return self.api.llama_get_memory(self.state)

    def prefill(self, length: int, seed: int) -> Answer:
        """Every position, and the logits of the last one."""
        self._open(1, self.context)
        self.api.llama_memory_clear(self._memory(), True)
        self.filled = 0
        started = time.perf_counter()
        self._fill(draw(seed, length))
        return {"seconds": time.perf_counter() - started, "done": length}

    def decode(self, sequences: int, length: int, tokens: int, seed: int) -> Answer:
        """Tokens after the prompt, one step each; the id each sequence begins with is drawn, its prompt kept."""
        self._open(sequences, self.context if sequences == 1 else length + tokens)
        if self.filled != length:
            self._prepare(sequences, length, seed)
        for row in range(sequences):
            self.api.llama_memory_seq_rm(self._memory(), row, length, -1)
        best = draw(seed, sequences)
        steps = tokens - 1 if sequences == 1 else tokens
        started = time.perf_counter()
        for step in range(steps):
            self._run([(best[row], length + step, row, True) for row in range(sequences)])
            best = [self._best(row) for row in range(sequences)]
        return {"seconds": time.perf_counter() - started, "done": steps * sequences}

    def _prepare(self, sequences: int, length: int, seed: int) -> None:
        """One prompt is computed, and each other sequence gets a copy of its own of what came of it.

        The work of a step does not depend on what the cells hold.
        """
        self.api.llama_memory_clear(self._memory(), True)
        self._fill(draw(seed, length))
        if sequences > 1:
            import ctypes

            size = self.api.llama_state_seq_get_size(self.state, 0)
            held = (ctypes.c_uint8 * size)()
            self.api.llama_state_seq_get_data(self.state, held, size, 0)
            for row in range(1, sequences):
                if not self.api.llama_state_seq_set_data(self.state, held, size, row):
                    raise RuntimeError(f"llama.cpp did not take the state of sequence {row}")
        self.filled = length


class Transformers:
    """PyTorch in bfloat16: of a GGUF file the weights dequantised, for there is no quantised kernel for a CPU in it."""

    def __init__(self, path: Path, threads: int, context: int) -> None:
        import torch
        import transformers

        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from tests.golden.reference import model_from_gguf

        torch.set_num_threads(threads)
        self.torch = torch
        self.cache: Any = None
        self.filled: tuple[int, ...] = ()  # sequences and positions the cache began with
        if path.is_dir():
            found = transformers.AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.bfloat16)
            self.model = found.eval()
        else:
            self.model = model_from_gguf(path).to(torch.bfloat16)

    def facts(self) -> Answer:
        """What a result says about this side."""
        return {"attention": self.model.config._attn_implementation, "dtype": str(next(self.model.parameters()).dtype)}

    def _fill(self, rows: list[list[int]]) -> Any:
        return self.model(input_ids=self.torch.tensor(rows), use_cache=True, logits_to_keep=1)

    def prefill(self, length: int, seed: int) -> Answer:
        """Every position, and the logits of the last one."""
        started = time.perf_counter()
        with self.torch.inference_mode():
            self._fill([draw(seed, length)])
        return {"seconds": time.perf_counter() - started, "done": length}

    def encode(self, length: int, seed: int) -> Answer:
        """The final states of every position; no cache is kept and no logits are made."""
        started = time.perf_counter()
        with self.torch.inference_mode():
            states = self.model.model(input_ids=self.torch.tensor([draw(seed, length)]), use_cache=False)
            states.last_hidden_state.float().numpy()
        return {"seconds": time.perf_counter() - started, "done": length}

    def gradient(self, sequences: int, length: int, targets: int, seed: int) -> Answer:
        """The same by autograd, with logits of the predicting positions alone and no gradient of a weight."""
        torch = self.torch
        self.model.requires_grad_(False)
        table = self.model.get_input_embeddings().weight
        ids = torch.tensor(texts(seed, sequences, length - targets + 1))
        wanted = torch.tensor(texts(seed + 500, sequences, targets))
        vectors = table[ids].clone().requires_grad_()
        started = time.perf_counter()
        inputs = torch.cat([vectors, table[wanted[:, :-1]]], dim=1)
        logits = self.model(inputs_embeds=inputs, use_cache=False, logits_to_keep=targets).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten())
        torch.autograd.grad(loss, vectors)
        return {"seconds": time.perf_counter() - started, "done": sequences * length}

    def decode(self, sequences: int, length: int, tokens: int, seed: int) -> Answer:
        """Tokens after the prompt, one step each, with the key-value cache; the first id is drawn, the prompt kept."""
        with self.torch.inference_mode():
            if self.filled != (sequences, length):
                self.cache = self._fill([draw(1000 * seed + row, length) for row in range(sequences)]).past_key_values
                self.filled = (sequences, length)
            if extra := self.cache.get_seq_length() - length:
                self.cache.crop(-extra)
            best = self.torch.tensor([[n] for n in draw(seed, sequences)])
            started = time.perf_counter()
            for _ in range(tokens - 1):
                out = self.model(input_ids=best, past_key_values=self.cache, use_cache=True)
                best = out.logits[:, -1].argmax(dim=-1, keepdim=True)
            return {"seconds": time.perf_counter() - started, "done": (tokens - 1) * sequences}


class Packed(Transformers):
    """The same with every matrix of the layers laid out once as oneDNN wants it, which plain PyTorch does each call."""

    def __init__(self, path: Path, threads: int, context: int) -> None:
        super().__init__(path, threads, context)
        torch = self.torch
        operators = torch.ops.mkldnn

        class Product(torch.autograd.Function):  # type: ignore[name-defined, misc]
            """A product with a packed weight, and the way back by a second one packed the other way round."""

            @staticmethod
            def forward(ctx: Any, rows: Any, linear: Any) -> Any:
                ctx.linear = linear
                return operators._linear_pointwise(rows, linear.packed, linear.bias, "none", [], "")

            @staticmethod
            def backward(ctx: Any, gradient: Any) -> Any:
                back = ctx.linear.back()
                return operators._linear_pointwise(gradient.contiguous(), back, None, "none", [], ""), None

        class Linear(torch.nn.Module):  # type: ignore[name-defined, misc]
            """A linear layer whose weight is packed for inputs of about 512 rows."""

            def __init__(self, plain: Any) -> None:
                super().__init__()
                self.plain = [plain.weight.detach()]
                self.packed = operators._reorder_linear_weight(plain.weight.detach(), 512)
                self.bias = plain.bias
                self.turned: Any = None

            def back(self) -> Any:
                """The weight the other way round, packed when a gradient is first asked for."""
                if self.turned is None:
                    weight = self.plain.pop()
                    self.turned = operators._reorder_linear_weight(weight.T.contiguous(), 1024)
                return self.turned

            def forward(self, rows: Any) -> Any:
                if torch.is_grad_enabled():
                    return Product.apply(rows, self)
                return operators._linear_pointwise(rows, self.packed, self.bias, "none", [], "")

        with torch.inference_mode():
            for layer in self.model.model.layers:
                for part in (layer.self_attn, layer.mlp):
                    for name, child in list(part.named_children()):
                        if isinstance(child, torch.nn.Linear):
                            setattr(part, name, Linear(child))


SIDES: dict[str, Any] = {
    "densecore": DenseCore,
    "densecore earlier": DenseCore,
    "densecore earlier again": DenseCore,
    "densecore greedy": Greedy,
    "llama.cpp": LlamaCpp,
    "transformers": Transformers,
    "transformers packed": Packed,
}


def peak_mib() -> float:
    """Peak resident memory of this process."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(name: str, path: Path, threads: int, context: int, kept: bool) -> None:
    """Answer requests until the input ends; `kept` lets densecore keep prefixes."""
    options = {"prefix_bytes": None} if kept and name.startswith("densecore") else {}
    side = SIDES[name](path, threads, context, **options)
    print(json.dumps(side.facts()), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(side, request.pop("call"))(**request)), flush=True)


def first_id(name: str, path: Path, threads: int) -> None:
    """Load, and the first id of a short prompt: for the measure of a fresh process."""
    SIDES[name](path, threads, 512).prefill(STARTUP_TOKENS, 1)
    print("id", flush=True)


def gradient_memory(name: str, path: Path, threads: int) -> None:
    """Peak resident memory of a gradient above what is resident after loading and a first short answer."""
    side = SIDES[name](path, threads, 512)
    side.prefill(16, 1)
    side.prefill(16, 2)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # peaks count from here
    before = status_mib("VmRSS")
    side.gradient(seed=1, **GRADIENT)
    print("peak", status_mib("VmHWM") - before, flush=True)


def status_mib(key: str) -> float:
    """A line of what Linux says about this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def use_memory(name: str, path: Path, threads: int) -> None:
    """512 prompt and 64 answer tokens in one process; then its peak without the keys and values of the 576."""
    side = SIDES[name](path, threads, 1024)
    side.decode(1, 512, 64, 1)
    print("peak", peak_mib() - side.kv_bytes(512 + 64) / 2**20, flush=True)


if __name__ == "__main__":
    what, given, file, count, *more = sys.argv[1:]
    if what == "serve":
        serve(given, Path(file), int(count), int(more[0]), more[1] == "kept")
    elif what == "first":
        first_id(given, Path(file), int(count))
    elif what == "gradient_memory":
        gradient_memory(given, Path(file), int(count))
    else:
        use_memory(given, Path(file), int(count))
