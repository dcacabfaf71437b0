"""llama.cpp built from the sources inside llama-cpp-python's sdist, in variants that no wheel offers.

    python benches/peers.py            build both variants now; a comparison that needs one builds it by itself

`server` is `llama-server` for this very processor, `avx2` the Python package over a library without AVX-512. A build
lies in `.cache/peers`, in a folder named by version, processor and flags, and is made once, in some four minutes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tools.environment import processor  # noqa: E402 - the checkout is found first

VERSION = "0.3.36"  # as pinned in pyproject.toml, so that wheel and builds are the same llama.cpp
SDIST = f"llama_cpp_python-{VERSION}.tar.gz"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
PLACE = ROOT / ".cache" / "peers"
COMMON = ["-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
          "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
          "-DCMAKE_INSTALL_RPATH=$ORIGIN", "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON"]  # fmt: skip
NARROW = ["-DGGML_NATIVE=OFF", "-DGGML_AVX512=OFF", "-DGGML_SSE42=ON", "-DGGML_AVX=ON", "-DGGML_AVX2=ON",
          "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_BMI2=ON"]  # fmt: skip
TARGETS = {"server": "llama-server", "avx2": "llama"}


class PeerMissing(Exception):
    """A peer that cannot be had here; the text says what to install."""


def flags(variant: str) -> list[str]:
    """What cmake is told. AVX-VNNI is an AVX2 instruction and stays on where the processor has it."""
    if variant == "server":
        return [*COMMON, "-DGGML_NATIVE=ON"]
    try:
        has_vnni = "avx_vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        has_vnni = False
    return [*COMMON, *NARROW, f"-DGGML_AVX_VNNI={'ON' if has_vnni else 'OFF'}", "-DLLAMA_BUILD_TOOLS=OFF"]


def facts(variant: str) -> dict[str, Any]:
    """What a result says about a build."""
    return {"sdist": SDIST, "sha256": SHA256, "flags": flags(variant)}


def folder(variant: str) -> Path:
    """Where a build lies, there or not."""
    digest = hashlib.sha256(json.dumps([SHA256, flags(variant), processor()]).encode()).hexdigest()[:12]
    return PLACE / f"{variant}-{VERSION}-{digest}"


def server() -> Path:
    """The `llama-server` program, built if need be."""
    return _built("server") / "llama-server"


def narrow_package() -> Path:
    """A folder for the front of `sys.path` whose `llama_cpp` uses the AVX2 library, built if need be."""
    return _built("avx2")


def _built(variant: str) -> Path:
    made = folder(variant)
    if (made / "facts.json").is_file():
        return made
    tools = _tools()
    print(f"building llama.cpp {VERSION} ({variant}): some four minutes, once", file=sys.stderr, flush=True)
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE) as scratch:
        source = _unpacked(Path(scratch))
        part = _compile(variant, source, Path(scratch), tools)
        (part / "facts.json").write_text(json.dumps(facts(variant), indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(made, ignore_errors=True)
        part.rename(made)
    return made


def _compile(variant: str, source: Path, scratch: Path, tools: dict[str, str]) -> Path:
    """A folder with what was built and nothing else."""
    # A fixed build date makes llama.cpp compile for the oldest processors, which would make comparisons unfair.
    environment = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
    build, part = scratch / "build", scratch / "part"
    sources = ["-G", "Ninja", "-S", str(source / "vendor" / "llama.cpp"), "-B", str(build)]
    for command in (
        [tools["cmake"], *sources, f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}", *flags(variant)],
        [tools["cmake"], "--build", str(build), "--target", TARGETS[variant]],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerMissing(
                f"llama.cpp ({variant}) did not build; the end of it:\n{(done.stdout + done.stderr)[-2000:]}"
            )
    libraries = [path for path in (build / "bin").iterdir() if ".so" in path.name or path.name == TARGETS[variant]]
    target = part
    if variant == "avx2":
        shutil.copytree(source / "llama_cpp", part / "llama_cpp")
        target = part / "llama_cpp" / "lib"
    target.mkdir(parents=True, exist_ok=True)
    for path in libraries:
        shutil.copy2(path, target / path.name, follow_symlinks=False)
    return part


def _unpacked(scratch: Path) -> Path:
    """The sources, fetched by this environment's pip from wherever it fetches, and checked."""
    archive = PLACE / SDIST
    if not archive.is_file():
        _pip("download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python", "--dest", str(scratch),
             f"llama-cpp-python=={VERSION}")  # fmt: skip
        _check(scratch / SDIST)
        (scratch / SDIST).rename(archive)
    _check(archive)
    with tarfile.open(archive) as packed:
        packed.extractall(scratch, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return scratch / SDIST.removesuffix(".tar.gz")


def _check(archive: Path) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise PeerMissing(f"{archive.name} has SHA-256 {found}, not {SHA256}; delete {archive} and check the index")


def _tools() -> dict[str, str]:
    """cmake and ninja: of the system, or as wheels in this virtual environment."""
    if not shutil.which("c++") and not shutil.which("g++"):
        raise PeerMissing("no C++ compiler; on Debian and Ubuntu: apt-get install g++")
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    missing = [name for name in ("cmake", "ninja") if not shutil.which(name, path=places)]
    if missing and sys.prefix == sys.base_prefix:
        raise PeerMissing(f"{' and '.join(missing)} missing: pip install {' '.join(missing)}, or run `make bench`")
    if missing:
        _pip("install", "--quiet", *missing)
    found = {name: shutil.which(name, path=places) for name in ("cmake", "ninja")}
    if not all(found.values()):
        raise PeerMissing(
            f"pip installed {' and '.join(missing)} and no such program is in {places.split(os.pathsep)[0]}"
        )
    return {name: str(path) for name, path in found.items()}


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerMissing(f"pip {arguments[0]} failed:\n{done.stderr[-1000:]}")


if __name__ == "__main__":
    try:
        for place in (server(), narrow_package()):
            print(place.relative_to(ROOT))
    except PeerMissing as error:
        raise SystemExit(str(error)) from None
