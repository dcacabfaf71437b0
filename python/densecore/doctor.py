"""``python -m densecore.doctor``: what is installed, what the machine has, and whether it computes correctly.

    python -m densecore.doctor [--model NAME] [--offline] [--json]

Without ``--model`` nothing is downloaded: the smallest catalogue model that is already here says one token. The exit
status is 0 when everything that was tried works, 1 otherwise; the JSON form holds the same facts as the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np

from densecore import _core
from densecore.errors import DenseCoreError
from densecore.hardware import Hardware, hardware
from densecore.models import CATALOGUE, cache, disk
from densecore.models.resolve import lookup

EXTRAS = ("torch", "dspy", "matplotlib", "transformers", "llama-cpp-python")
SETTINGS = ("DENSECORE_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE")
PROMPT = "The capital of France is"
GIB = 1 << 30


@dataclass(frozen=True)
class Found:
    """A catalogue model that is on this machine."""

    name: str
    path: str
    bytes: int


@dataclass(frozen=True)
class Cache:
    """A folder that models are fetched into."""

    what: str
    path: str
    free: int
    """Bytes left on its disk."""


@dataclass(frozen=True)
class Check:
    """One kernel beside its reference."""

    name: str
    ok: bool


@dataclass(frozen=True)
class SelfTest:
    """Whether this machine's kernels compute what the reference computes."""

    ok: bool
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Token:
    """One greedy token of a real model."""

    model: str
    ok: bool
    text: str = ""
    load_seconds: float = 0.0
    token_seconds: float = 0.0
    error: str = ""


@dataclass
class Report:
    """Everything the doctor found."""

    versions: dict[str, str]
    build: str
    hardware: Hardware
    settings: dict[str, str]
    caches: list[Cache]
    models: list[Found]
    self_test: SelfTest
    token: Token | None = None
    ok: bool = field(init=False)

    def __post_init__(self) -> None:
        self.ok = self.self_test.ok and (self.token is None or self.token.ok)


def examine(model: str | None = None, *, offline: bool = False) -> Report:
    """Look at everything once; ``model`` is fetched if it is not here, unless ``offline``."""
    found = _present()
    chosen = model or (min(found, key=lambda item: item.bytes).name if found else None)
    return Report(
        versions=_versions(),
        build=str(_core.__file__),
        hardware=hardware(),
        settings=_settings(),
        caches=[_cache("densecore's own", cache.own_root()), _cache("shared, of the hub", cache.hub_root())],
        models=found,
        self_test=_self_test(),
        token=None if chosen is None else _one_token(chosen, offline=offline or model is None),
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "system": platform.platform(), "numpy": np.__version__}
    for package in ("densecore", *EXTRAS):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _settings() -> dict[str, str]:
    shown = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    hidden = {name: "set" for name in ("HF_TOKEN",) if name in os.environ}  # the value is nobody's business
    return shown | hidden


def _cache(what: str, folder: Path) -> Cache:
    try:
        return Cache(what, str(folder), disk.free(folder))
    except OSError:
        return Cache(what, str(folder), 0)


def _present() -> list[Found]:
    found = []
    for name in CATALOGUE:
        try:
            _, here = lookup(name)  # reads no content: nothing is hashed
            if here is not None:
                found.append(Found(name, str(here.path), here.size))
        except (DenseCoreError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)  # here, but broken
    return found


def _self_test() -> SelfTest:
    start = time.perf_counter()
    try:
        checks = [Check(name, ok) for name, ok in _core.self_test()]
    except DenseCoreError as error:
        return SelfTest(ok=False, error=str(error))
    return SelfTest(all(check.ok for check in checks), checks, time.perf_counter() - start)


def _one_token(name: str, *, offline: bool) -> Token:
    from densecore import Model

    try:
        start = time.perf_counter()
        model = Model.load(name, offline=offline or None, progress=sys.stderr.isatty())
        loaded = time.perf_counter()
        text = model.generate(PROMPT, max_tokens=1).text
        done = time.perf_counter()
    except (DenseCoreError, OSError, MemoryError) as error:
        return Token(name, ok=False, error=str(error))
    return Token(name, ok=True, text=text, load_seconds=loaded - start, token_seconds=done - loaded)


def table(report: Report) -> str:
    """The report for people."""
    machine = report.hardware
    lines = ["versions"]
    lines += [_row(name, version) for name, version in report.versions.items()]
    lines += [_row("engine", report.build), "machine"]
    lines += [
        _row("processor", f"{machine.cpu}, {machine.physical} cores, {machine.threads} threads for this process"),
        _row("kernels", f"{machine.tier} ({', '.join(machine.features) or 'no extensions'})"),
        _row("memory", _memory(machine)),
        _row("graphics", machine.note or "none found"),
    ]
    lines += ["settings", *(_row(name, value) for name, value in report.settings.items())] if report.settings else []
    lines.append("caches")
    lines += [_row(item.what, f"{disk.human(item.free)} free  {item.path}") for item in report.caches]
    lines.append("models here")
    lines += [_row(item.name, f"{disk.human(item.bytes)}  {item.path}") for item in report.models]
    if not report.models:
        lines.append(_row("none", "fetch one: python -m densecore.models pull smollm2-135m-instruct"))
    lines += ["self test", *_test_rows(report.self_test)]
    if report.token is not None:
        lines.append(_row(report.token.model, _spoken(report.token)))
    lines.append("all well" if report.ok else "something is wrong: see the lines marked FAILED")
    return "\n".join(lines)


def _row(name: str, value: str) -> str:
    return f"  {name:<30} {value}"


def _memory(machine: Hardware) -> str:
    if machine.memory_total == 0:
        return "this system does not say"
    return f"{machine.memory_available / GIB:.1f} GiB available of {machine.memory_total / GIB:.1f} GiB"


def _test_rows(test: SelfTest) -> list[str]:
    rows = [_row(check.name, "ok" if check.ok else "FAILED") for check in test.checks]
    verdict = f"ok in {test.seconds:.1f} s" if test.ok else f"FAILED{test.error and ': '}{test.error}"
    return [*rows, _row("kernels against the reference", verdict)]


def _spoken(token: Token) -> str:
    if not token.ok:
        return f"FAILED: {token.error}"
    return (
        f"ok  {PROMPT!r} -> {token.text!r}, loaded in {token.load_seconds:.2f} s, token in {token.token_seconds:.2f} s"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m densecore.doctor", description="Check this installation.")
    parser.add_argument("--model", metavar="NAME", help="the model that says a token: name, hub id or path")
    parser.add_argument("--offline", action="store_true", help="never use the network")
    parser.add_argument("--json", action="store_true", help="print the same facts as JSON")
    options = parser.parse_args(arguments)
    report = examine(options.model, offline=options.offline)
    print(json.dumps(asdict(report), indent=2, default=str) if options.json else table(report))
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
