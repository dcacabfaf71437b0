"""What is measured, on which model, against whom, and which ratio is wanted.

A ratio is always turned so that above 1 densecore is better: faster, or smaller. A target is the ratio wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from benches.sides import GRADIENT

OURS, LLAMA, TORCH, PACKED, SERVER = "densecore", "llama.cpp", "transformers", "transformers packed", "llama-server"
LIST, GREEDY, FILE = "densecore list", "densecore greedy", "file"
EARLIER, AGAIN = "densecore earlier", "densecore earlier again"  # one build twice: how far it is from itself
PROMPT = 128  # positions before a decode
TOKENS = 64  # of a decode
SHARED = {"requests": 64, "prefix": 600, "own": 60, "tokens": 100}
TRIED = {"requests": 64, "prefix": 150, "own": 15, "tokens": 25}  # a quarter of it, to find the server's best settings

# Settings of llama.cpp tried before a measure, one after the other; the best of each stays.
FLASH, UNIFIED, REPACK = ("flash", [True, False]), ("unified", [False, True]), ("repack", [True, False])
LARGE = ("ubatch", [512, 2048])
SMALL = ("ubatch", [512, 128])


@dataclass(frozen=True)
class Against:
    """One comparison of a measure. Without a target it is there to be known."""

    peer: str
    target: float | None = None
    must: bool = False
    ours: str = OURS
    again: str | None = None  # the peer once more: what lies between the two is not the builds'


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    name: str
    group: str  # measures of a group share their processes
    unit: str
    against: tuple[Against, ...]
    work: dict[str, Any] = field(default_factory=dict)  # the request a worker gets
    model: str = "main"
    tries: tuple[tuple[str, list[Any]], ...] = ()

    @property
    def lower(self) -> bool:
        """Whether less is better."""
        return self.unit in ("s", "MiB")

    @property
    def sides(self) -> tuple[str, ...]:
        """Who is measured, ours first."""
        named = [one.ours for one in self.against] + [one.peer for one in self.against if one.peer != FILE]
        named += [one.again for one in self.against if one.again]
        return tuple(sorted(dict.fromkeys(named), key=lambda side: (not side.startswith(OURS), named.index(side))))

    def rate(self, answer: dict[str, Any]) -> float:
        """The value of one answer: seconds for the work, tokens or requests in it."""
        return float(answer["done"]) / float(answer["seconds"]) * (60 if self.unit == "req/min" else 1)


def _prefill(name: str, length: int, group: str, against: tuple[Against, ...], **more: Any) -> Measure:
    return Measure(name, group, "tok/s", against, {"call": "prefill", "length": length}, **more)


def _decode(
    name: str, rows: int, group: str, against: tuple[Against, ...], length: int = PROMPT, **more: Any
) -> Measure:
    work = {"call": "decode", "sequences": rows, "length": length, "tokens": TOKENS}
    return Measure(name, group, "tok/s", against, work, **more)


def llama(target: float, must: bool = False) -> tuple[Against, ...]:
    """Against llama.cpp alone."""
    return (Against(LLAMA, target, must),)


KNOWN = (Against(TORCH),)  # transformers for comparison: its values lie far from both others and take most of the time
MEASURES = [
    _prefill("prefill_512", 512, "qwen", llama(1.5, must=True) + KNOWN, tries=(FLASH, SMALL, REPACK)),
    _decode("decode_1", 1, "qwen", llama(1.05) + KNOWN, tries=(FLASH, REPACK)),
    _prefill("prefill_4096", 4096, "qwen", llama(1.2) + KNOWN, tries=(FLASH, LARGE)),
    _decode("decode_4096", 1, "qwen", llama(1.0) + KNOWN, length=4096, tries=(FLASH,)),
    *(_decode(f"decode_{n}", n, "batch", llama(1.5), tries=(FLASH, UNIFIED, REPACK)) for n in (8, 16, 32, 64)),
    _prefill("smollm_prefill_512", 512, "smollm", llama(1.5), model="smollm", tries=(FLASH, SMALL, REPACK)),
    _prefill("avx2_prefill_512", 512, "avx2", llama(1.0), tries=(FLASH, SMALL, REPACK)),
    _decode("avx2_decode_1", 1, "avx2", llama(1.0), tries=(FLASH, REPACK)),
    Measure("startup", "process", "s", (Against(LLAMA, 1 / 0.7),)),
    Measure("memory", "process", "MiB", (Against(LLAMA), Against(FILE, 1 / 1.25))),
    Measure(
        "encode_512", "encode", "tok/s", (Against(TORCH, 1.0, must=True), Against(PACKED, 1.0)),
        {"call": "encode", "length": 512},
    ),
    _prefill("dense_prefill_512", 512, "dense", (Against(TORCH, 1.2),), model="dense"),
    _decode("dense_decode_1", 1, "dense", (Against(TORCH, 1.2),), model="dense"),
    _prefill("mixed_prefill_512", 512, "mixed", llama(1.2), model="mixed", tries=(FLASH, SMALL, REPACK)),
    _decode("mixed_decode_1", 1, "mixed", llama(1.0), model="mixed", tries=(FLASH, REPACK)),
    Measure(
        "gradient_8x128", "gradient", "pos/s", (Against(TORCH, 1.8, must=True), Against(PACKED, 1.0, must=True)),
        {"call": "gradient", **GRADIENT},
    ),
    Measure(
        "sampling_64", "sampling", "tok/s", (Against(GREEDY, 0.95, must=True),),
        {"call": "sample", "sequences": 64, "length": PROMPT, "tokens": TOKENS},
    ),
    Measure("gradient_memory", "process", "MiB", (Against(TORCH, 4.0),)),
    Measure("shared_64", "shared", "req/min", (Against(SERVER, 2.0), Against(SERVER, ours=LIST))),
    # Between the others, when asked for by name.
    *(_decode(f"decode_{n}", n, "batch", llama(1.5), tries=(FLASH, UNIFIED, REPACK)) for n in (2, 4)),
]  # fmt: skip
BY_NAME = {measure.name: measure for measure in MEASURES}
FULL = [measure.name for measure in MEASURES if measure.name not in ("decode_2", "decode_4")]
QUICK = ["prefill_512", "decode_1", "decode_16", "startup", "memory"]
GROUPS = list(dict.fromkeys(measure.group for measure in MEASURES))
AGAINST = ["prefill_512", "decode_1", "decode_16"]  # what one build is measured by beside another


def against_a_build() -> None:
    """Put another build of ours beside us in every measure, in everybody's place.

    It may be ahead by three percent, or by as much as it is from itself in the same run, whichever is more.
    """
    for name, measure in BY_NAME.items():
        BY_NAME[name] = replace(measure, against=(Against(EARLIER, 0.97, must=True, again=AGAIN),), tries=())
