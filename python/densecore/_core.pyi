"""The engine as the binding shows it: plain values in, plain values and its own objects out.

The modules beside this one give names to the tuples and choose the defaults; nothing outside the package needs this.
Arguments have no defaults unless the engine's signature has one. A failure raises the class of
:mod:`densecore.errors` that names it; a call with a ``cancel`` stops within one step of the flag, and every call that
computes lets Ctrl-C through.
"""

import builtins
import os
from collections.abc import Sequence
from typing import Any, final

from densecore import wire

__version__: str

__all__ = [
    "Array",
    "CancelFlag",
    "Context",
    "Hidden",
    "Model",
    "Recording",
    "Stream",
    "__version__",
    "check_options",
    "cores",
    "cpu_features",
    "cpu_name",
    "cpu_tier",
    "memory",
    "self_test",
    "threads",
    "trace",
]

@final
class Array:
    """Numbers given away; ``numpy.asarray`` views them without a copy, read-only."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...
    @property
    def shape(self) -> tuple[int, int]: ...

@final
class CancelFlag:
    """A request to stop that several calls may share."""

    def __new__(cls) -> CancelFlag: ...
    def cancel(self) -> None:
        """Ask every call that got this flag to stop."""

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""

@final
class Hidden:
    """``(T, d)`` vectors that know their model and space."""

    @staticmethod
    def borrow(array: object, fingerprint: str, layer: int | None = None, normed: bool = False) -> Hidden:
        """Vectors in the memory of a float32 or bfloat16 array or tensor; a call reads them once, when it begins."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> str:
        """``"float32"`` or ``"bfloat16"``."""

    @property
    def space(self) -> str:
        """``"input"`` or ``"layer"``."""

    @property
    def layer(self) -> int | None:
        """Layers passed; ``None`` in the input space."""

    @property
    def normed(self) -> bool:
        """Whether the final norm was applied."""

    @property
    def fingerprint(self) -> str:
        """The model these vectors belong to."""

    @property
    def data_ptr(self) -> int:
        """Address of the first component."""

    def to(self, dtype: str) -> Hidden:
        """The same vectors stored as ``"float32"`` or ``"bfloat16"``."""

    def rows(self, start: int, stop: int) -> Hidden:
        """Rows ``start..stop``, sharing the memory."""

    def as_space(self, layer: int | None = None, normed: bool = False) -> Hidden:
        """The same vectors declared to belong to another space."""

    def __len__(self) -> int: ...
    @property
    def __array_interface__(self) -> dict[str, Any]:
        """For NumPy; bfloat16, which it lacks, raises ``AttributeError``."""

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A capsule over the same memory, or a copy of what its owner does not want written."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """``(1, 0)``, the CPU."""

@final
class Model:
    """A frozen model; any number of threads may call it. Lists hold one entry a prompt."""

    @staticmethod
    def load(
        path: str | os.PathLike[str],
        threads: int | None,
        context: int | None,
        kv: str,
        cache_bytes: int | None,
        max_memory: int | None,
        prefix_bytes: int | None,
        queue: int,
        queue_seconds: float,
        exact: bool,
    ) -> Model:
        """Map the weights of a GGUF file or a safetensors folder; ``kv`` is "auto", "f32" or "f16"."""

    def close(self) -> None:
        """Refuse further calls, and let go of what is kept for them."""

    def config(self) -> wire.Config:
        """Shape and settings."""

    @property
    def name(self) -> str:
        """The model's own name."""

    @property
    def fingerprint(self) -> str:
        """Identity of the weights."""

    @property
    def threads(self) -> int:
        """Compute threads."""

    @property
    def kv(self) -> str:
        """Storage of keys and values, ``"f32"`` or ``"f16"``."""

    @property
    def exact(self) -> bool:
        """Whether it computes with float32 weights whatever the file holds."""

    @property
    def eos_ids(self) -> list[int]:
        """Tokens that end an answer."""

    def special_tokens(self) -> list[tuple[int, str]]:
        """Control tokens and their names."""

    def memory(self) -> tuple[int, int, int, int]:
        """Bytes of (packed weights, files, caches in use, caches allowed)."""

    @property
    def bos_id(self) -> int | None:
        """What a plain prompt begins with."""

    @property
    def chat_templates(self) -> list[str]:
        """Names of the chat templates."""

    def tokenize(self, texts: Sequence[str], special: bool, bos: bool) -> list[list[int]]:
        """Text to ids; ``special`` parses the names of special tokens, ``bos`` begins each as a prompt."""

    def detokenize(self, lists: Sequence[Sequence[int]], special: bool) -> list[str]:
        """Ids to text; ``special`` writes the names of special tokens."""

    def render(self, chat: wire.Chat) -> str:
        """The text the chat template makes of a chat of text."""

    def embed(self, batch: Sequence[wire.Prompt]) -> list[Hidden]:
        """Token embeddings, in the input space."""

    def encode(
        self,
        batch: Sequence[wire.Prompt],
        layer: int | None,
        normed: bool | None,
        pool: str | None,
        raw: bool,
        cancel: CancelFlag | None,
    ) -> list[Hidden]:
        """States after ``layer`` layers; ``pool`` is ``None``, "mean" or "last"."""

    def forward(self, batch: Sequence[Hidden], raw: bool, cancel: CancelFlag | None) -> list[Hidden]:
        """Input vectors to final states."""

    def readout(self, states: Hidden, k: int, raw: bool) -> tuple[Array, Array]:
        """``(ids, probabilities)``, both ``(T, k)``, likeliest first."""

    def logits(self, batch: Sequence[wire.Prompt], raw: bool, cancel: CancelFlag | None) -> list[Array]:
        """Logits after every position, ``(T, vocab)``."""

    def generate(
        self, batch: Sequence[wire.Prompt], options: wire.GenerateOptions, raw: bool, cancel: CancelFlag | None
    ) -> list[wire.Generation]:
        """Continue each prompt."""

    def stream(
        self, batch: Sequence[wire.Prompt], options: wire.GenerateOptions, raw: bool, cancel: CancelFlag | None
    ) -> Stream:
        """Continue each prompt on a thread of the engine's own."""

    def score(
        self,
        pairs: Sequence[tuple[wire.Prompt, Sequence[int]]],
        top: int,
        salt: str | None,
        raw: bool,
        cancel: CancelFlag | None,
    ) -> list[wire.Score]:
        """Log-probabilities of target ids after their prompts."""

    def loss_and_grad(
        self, batch: list[wire.LossItem], grad: bool, options: wire.GradOptions, cancel: CancelFlag | None
    ) -> list[wire.Loss]:
        """The loss of each sequence and, if ``grad``, its gradient by the vectors."""

    def record(
        self,
        batch: list[tuple[wire.Prefix, Hidden]],
        layer: int | None,
        normed: bool | None,
        options: wire.GradOptions,
        cancel: CancelFlag | None,
    ) -> Recording:
        """Take vectors behind their prefixes to the states of a layer, to go back from them."""

    def prefill(
        self, batch: Sequence[wire.Prompt], salt: str | None, raw: bool, cancel: CancelFlag | None
    ) -> list[Context]:
        """Read each prompt once."""

    def think(
        self, batch: Sequence[wire.Prompt], options: wire.ThinkOptions, raw: bool, cancel: CancelFlag | None
    ) -> list[wire.Thought]:
        """Latent steps after each prompt."""

    def import_context(self, data: bytes) -> Context:
        """Read back what :meth:`Context.export` wrote."""

@final
class Recording:
    """A forward pass that can be gone back, any number of times."""

    def states(self) -> list[Hidden]:
        """The states of each sequence's vectors."""

    def pull(self, gradients: list[Hidden], cancel: CancelFlag | None) -> list[tuple[Hidden, list[wire.KvPair]]]:
        """From gradients by the states to those by the vectors, and by the prefix's keys and values."""

@final
class Context:
    """Keys, values and last state of a prefix. Calls work on a snapshot, so threads may share one."""

    @property
    def length(self) -> int:
        """Positions held."""

    @property
    def bytes(self) -> int:
        """Memory of keys and values, shared parts included."""

    def fork(self) -> Context:
        """An independent copy that shares memory until one of the two goes on."""

    def extend(self, prompt: wire.Prompt, raw: bool, cancel: CancelFlag | None) -> None:
        """Read more, here."""

    def truncate(self, length: int) -> None:
        """Forget positions from ``length`` on."""

    def generate(
        self, prompt: wire.Prompt | None, options: wire.GenerateOptions, raw: bool, cancel: CancelFlag | None
    ) -> list[wire.Generation]:
        """Continue a snapshot."""

    def stream(
        self, prompt: wire.Prompt | None, options: wire.GenerateOptions, raw: bool, cancel: CancelFlag | None
    ) -> Stream:
        """Continue a snapshot on a thread of the engine's own."""

    def score(self, target: Sequence[int], top: int, cancel: CancelFlag | None) -> wire.Score:
        """Log-probabilities of target ids as the continuation."""

    def think(
        self, prompt: wire.Prompt | None, options: wire.ThinkOptions, raw: bool, cancel: CancelFlag | None
    ) -> wire.Thought:
        """Latent steps from a snapshot."""

    def export(self) -> builtins.bytes:
        """The context as bytes."""

@final
class Stream:
    """An iterator of events. Dropping it cancels the answer."""

    def __iter__(self) -> Stream: ...
    def __next__(self) -> wire.Event: ...
    def cancel(self) -> None:
        """Ask the engine to stop; events already written still come."""

    def results(self) -> list[wire.Generation] | None:
        """The finished answers, once the iterator has ended."""

def check_options(options: wire.GenerateOptions) -> None:
    """Refuse options outside their ranges, before any work is started with them."""

def memory() -> tuple[int, int]:
    """(total, available) bytes, container limits included."""

def threads() -> int:
    """Threads this process may run at once."""

def cores() -> int | None:
    """Physical cores, if the system tells."""

def cpu_name() -> str | None:
    """The processor's name, if the system tells."""

def cpu_tier() -> str:
    """The kernels in use: "avx512", "avx2" or "portable"."""

def cpu_features() -> list[str]:
    """Instruction sets the kernels know about and the processor has."""

def self_test() -> list[tuple[str, bool]]:
    """``[(what, whether it agreed with the reference)]``."""

def trace(level: str) -> None:
    """Write the engine's spans of this level and above to standard error, with their times. Once a process."""
