"""What this machine has, and which part of it computes.

>>> from densecore import CPU, hardware
>>> machine = hardware()
>>> machine.threads >= 1
True
>>> CPU(threads=2)
CPU(threads=2)

The engine reads the machine (control groups and affinity included); this module only gives the numbers names.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from typing import TypeAlias

from densecore import _core
from densecore.errors import ArgumentError, BackendError

MAX_THREADS = 1024  # more than any one machine gains from; catches slips such as a byte count
MAX_GPUS = 64


@dataclass(frozen=True)
class Gpu:
    """One graphics processor this version can compute on."""

    id: int
    name: str
    memory_total: int
    """Bytes."""
    memory_available: int
    """Bytes, at the time of reading."""


@dataclass(frozen=True)
class Hardware:
    """A reading of the machine, as far as this process may use it."""

    cpu: str
    """The processor's name."""
    tier: str
    """The kernels in use, after the widest instructions found."""
    features: tuple[str, ...]
    """Instruction sets the kernels know about and the processor has."""
    threads: int
    """Threads that run at once: affinity mask and control group's quota respected."""
    physical: int
    """Physical cores behind them; two hyper-threads of a core count once."""
    memory_total: int
    """Bytes: the machine's, or the tightest cap over this process; 0 where the system does not say."""
    memory_available: int
    """Bytes that can be taken now without swapping."""
    gpus: tuple[Gpu, ...] = ()
    """Graphics processors this version computes on: none yet."""
    note: str = ""
    """What was seen but is not used."""


@dataclass(frozen=True)
class CPU:
    """Compute on the processor.

    ``threads=None`` takes one thread per physical core, never more than the process may run at once.
    """

    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None:
            _whole("threads", self.threads, 1, MAX_THREADS, "or leave it out to use the machine's cores")


@dataclass(frozen=True)
class GPU:
    """Compute on graphics processor ``id``, counted from 0."""

    id: int = 0

    def __post_init__(self) -> None:
        _whole("id", self.id, 0, MAX_GPUS - 1, "the first GPU is 0")


BackendConfig: TypeAlias = CPU | GPU


def hardware() -> Hardware:
    """Read the machine now; memory differs from call to call."""
    total, available = _core.memory()
    threads = _core.threads()
    return Hardware(
        cpu=_core.cpu_name() or "unknown",
        tier=_core.cpu_tier(),
        features=tuple(_core.cpu_features()),
        threads=threads,
        physical=min(threads, _core.cores() or threads),
        memory_total=total,
        memory_available=available,
        note=_unused_gpu(),
    )


def resolve_threads(backend: BackendConfig | None) -> int:
    """How many threads a backend means on this machine.

    Raises:
        BackendError: The backend is a GPU, which this version does not compute on.
        ArgumentError: The value is no backend at all.
    """
    if backend is None:
        backend = CPU()
    if isinstance(backend, GPU):
        seen = _unused_gpu() or "no NVIDIA driver was found either"
        raise BackendError(
            f"GPU({backend.id}): this version computes on the CPU only ({seen}); load with backend=densecore.CPU()"
        )
    if not isinstance(backend, CPU):
        raise ArgumentError(f"backend = {backend!r}: give densecore.CPU(threads), densecore.GPU(id) or None")
    if backend.threads is not None:
        return backend.threads
    threads = _core.threads()
    return min(threads, _core.cores() or threads)


def _unused_gpu() -> str:
    # Looking for the driver's traces starts no program and takes microseconds.
    import shutil  # slow to import, and needed here alone

    if os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi"):
        return "an NVIDIA driver is present but not used by this version"
    return ""


def _whole(name: str, value: object, least: int, most: int, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ArgumentError(f"{name} = {value!r}: give a whole number from {least} to {most}, {remedy}")
