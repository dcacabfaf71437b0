"""Fill the virtual environment this script runs in; called by the Makefile, does nothing when nothing changed.

    python tools/environment.py base    what building and the demo need: maturin, the run-time dependencies and DSPy
    python tools/environment.py dev     the above and everything the tests and checks need

The requirements are read from `pyproject.toml`, the only place that names them. A stamp inside the environment keeps
their digest, so a changed requirement is noticed and a touched file is not. What takes minutes to compile is built
once into `.cache/wheels`, in a folder for this Python and this processor.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
COMPILED = ("llama-cpp-python",)  # published as source only; some three minutes on two cores


def requirements(level: str) -> list[str]:
    """Requirement lines of one level, with references from one extra to another followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    own = project["project"]["name"]
    found = list(project["project"]["dependencies"]) + list(project["build-system"]["requires"])
    waiting = list(extras["dev" if level == "dev" else "dspy"])
    while waiting:
        line = waiting.pop()
        reference = re.fullmatch(rf"{own}\[([\w, -]+)\]", line)
        if reference:
            waiting += [item for extra in reference[1].split(",") for item in extras[extra.strip()]]
        else:
            found.append(line)
    return sorted(set(found))


def pip(*arguments: str) -> None:
    """Run this environment's pip; its configuration is the user's own."""
    # A fixed build date makes llama.cpp compile for the oldest processors, which would make comparisons unfair.
    environment = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, env=environment)


def processor() -> str:
    """A short name for what a compiled wheel depends on: compilers aim at the very machine they run on."""
    facts = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256((facts + flags).encode()).hexdigest()[:12]


def wheels(lines: list[str]) -> Path:
    """The folder of compiled wheels, filled as far as this environment lacks them."""
    tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}-{processor()}"
    folder = ROOT / ".cache" / "wheels" / tag
    folder.mkdir(parents=True, exist_ok=True)
    for line in lines:
        name, _, version = line.partition("==")
        if name not in COMPILED:
            continue
        try:
            installed = metadata.version(name) == version
        except metadata.PackageNotFoundError:
            installed = False
        file_name = name.replace("-", "_")
        if not installed and not list(folder.glob(f"{file_name}-{version}-*.whl")):
            print(f"compiling {line}: some minutes, once", flush=True)
            pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), line)
    return folder


def main() -> int:
    """Install what the level needs, unless the stamp says that it is there."""
    if len(sys.argv) != 2 or sys.argv[1] not in ("base", "dev"):
        print(__doc__, file=sys.stderr)
        return 2
    if sys.prefix == sys.base_prefix:
        print("this is not a virtual environment: run `make` rather than this script", file=sys.stderr)
        return 2
    level = sys.argv[1]
    lines = requirements(level)
    digest = hashlib.sha256("\n".join([sys.version, *lines]).encode()).hexdigest()
    stamp = Path(sys.prefix) / f".densecore-{level}"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return 0
    print(f"installing {len(lines)} requirements into {Path(sys.prefix).name}", flush=True)
    pip("install", "--quiet", "--upgrade", "pip>=23.1")
    found = ["--find-links", str(wheels(lines))] if level == "dev" else []
    pip("install", "--quiet", *found, *lines)
    stamp.write_text(digest, encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        print(f"pip failed with status {error.returncode}; its message is above", file=sys.stderr)
        sys.exit(1)
