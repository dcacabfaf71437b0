"""One result file per check: date, command, machine, figures, verdict."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "results" / "verify"


def cpu_model() -> str:
    """What the processor calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def total_memory() -> int:
    """Memory of the machine in bytes, 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def threads() -> int:
    """Cores this process may use, the thread count of both sides of a comparison."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """The machine in terms that matter for a figure, and nothing that names it."""
    return {
        "cpu": cpu_model(),
        "cores": threads(),
        "memory_gib": round(total_memory() / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of the peers a check ran against."""
    from importlib import metadata

    found = {}
    for name in ("densecore", "numpy", *packages):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def sha256(file: Path) -> str:
    """The content a figure was measured on."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(1 << 24):
            digest.update(part)
    return digest.hexdigest()


def path(name: str) -> Path:
    """Where the result of a check lies."""
    return FOLDER / f"{name}.json"


def write(
    name: str,
    *,
    passed: bool,
    seconds: float,
    figures: dict[str, Any],
    peers: tuple[str, ...] = (),
    models: dict[str, Path] | None = None,
) -> Path:
    """Write one result whole: a break leaves the old file or none."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    body = {
        "check": name,
        "passed": passed,
        "date": dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"python -m tests.verify {name}",
        "models": {name: sha256(file) for name, file in (models or {}).items()},
        "machine": machine(),
        "versions": versions(*peers),
        "seconds": round(seconds, 1),
        "figures": figures,
    }
    made = path(name).with_suffix(".part")
    made.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    made.replace(path(name))
    return path(name)


def say(text: str) -> None:
    """Progress, on the error stream so that results stay readable."""
    print(text, file=sys.stderr, flush=True)
