"""Run the kernels on processors this machine does not have; called by `make emulated`, on x86-64 Linux.

    python tools/emulated.py [arm] [x86]

arm: every test of the kernels, compiled for ARM, with and without its 8-bit dot products.
x86: the installed package on processors without AVX-512 and without AVX2: the doctor's self test, then tiny models,
whose logits must equal, bit for bit, those this machine computes with the same kernels.

Needs QEMU's user mode and, for ARM, a C cross compiler (Debian: qemu-user gcc-aarch64-linux-gnu
libc6-dev-arm64-cross). Rust's own target is used where rustup has installed it (`rustup target add
aarch64-unknown-linux-gnu`); on Debian 12 a compiler and both standard libraries are otherwise taken from its packages
and unpacked into `.cache/emulated`, so that nothing of the system or of rustup changes.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "emulated"
TARGET = "aarch64-unknown-linux-gnu"
LIBRARIES = "/usr/aarch64-linux-gnu"  # where Debian's cross packages put ARM's C library
PATIENCE = 600  # seconds for one command; the slowest takes a tenth of it on two cores
# processor -> the tier that must be found on it
ARM = {"cortex-a53": "portable", "max": "neon"}
X86 = {"Haswell": "avx2", "Nehalem": "portable"}
# The tests wait for Candle to compile, not to compute; of its parts one compiles only when optimised.
PROFILE = ('profile.dev.package."*".opt-level=0', "profile.dev.package.gemm-f16.opt-level=1")
# Prints the tier, and for each model a digest of its logits and some greedy tokens.
PROBE = """
import hashlib, json, sys
from densecore import Ids, Model, hardware

ids = [7 * i % 400 for i in range(70)]
found = {"tier": hardware().tier}
for path in sys.argv[1:]:
    model = Model.load(path)
    digest = hashlib.sha256(model.logits(Ids(ids)).tobytes()).hexdigest()
    found[path] = [digest, model.generate(Ids(ids[:9]), max_tokens=12, ignore_eos=True).ids]
print(json.dumps(found))
"""


class Failure(Exception):
    """What went wrong, for the reader of the last line."""


def run(command: list[str], environment: dict[str, str] | None = None, folder: Path = ROOT) -> str:
    """The command's output; a failure shows both of its streams."""
    full = {**os.environ, **(environment or {})}
    if Path(command[0]).name.startswith("qemu"):  # NumPy's products must suit that processor, not this one
        full.pop("OPENBLAS_CORETYPE", None)
    try:
        done = subprocess.run(
            command, cwd=folder, env=full, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{' '.join(command)[:200]} did not end within {PATIENCE} s") from error
    if done.returncode:
        # A negative status is a signal: -4 is an instruction the processor does not have.
        print(done.stdout[-8000:], done.stderr[-8000:], sep="\n", file=sys.stderr)
        raise Failure(f"{' '.join(command)[:200]} ended with status {done.returncode}")
    return done.stdout


def need(command: str, packages: str) -> None:
    """Refuse early, with the remedy."""
    if shutil.which(command) is None:
        raise Failure(f"{command} is missing (Debian and Ubuntu: apt-get install {packages})")


# ---- a compiler for ARM ----


def compiler() -> dict[str, str]:
    """The environment in which cargo can compile for ARM."""
    own = Path(run(["rustc", "--print", "target-libdir", "--target", TARGET]).strip())
    if own.is_dir():
        return {}
    unpacked = CACHE / "rust"
    if not (unpacked / "complete").is_file():
        unpack(unpacked)
    libraries = [unpacked / folder / "x86_64-linux-gnu" for folder in ("usr/lib", "lib")]
    return {"RUSTC": str(unpacked / "usr/bin/rustc"), "LD_LIBRARY_PATH": ":".join(map(str, libraries))}


def unpack(folder: Path) -> None:
    """Debian's compiler with the standard libraries of both architectures, in a folder of ours."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise Failure(f"there is no Rust for ARM: rustup target add {TARGET}")
    print("fetching Debian's Rust for ARM: 130 MB, once", flush=True)
    shutil.rmtree(CACHE, ignore_errors=True)
    lists, archives = CACHE / "apt" / "lists", CACHE / "apt" / "cache" / "archives"
    for place in (lists, archives):
        (place / "partial").mkdir(parents=True)
    # Lists and downloads of our own: the system need neither know of ARM nor let us write.
    settings = [
        f"Dir::State::lists={lists}",
        f"Dir::Cache={archives.parent}",
        "APT::Architectures::=amd64",
        "APT::Architectures::=arm64",
        "APT::Sandbox::User=root",
        "Acquire::Retries=3",
        "Debug::NoLocking=1",
    ]
    options = [word for setting in settings for word in ("-o", setting)]
    run(["apt-get", *options, "-qq", "update"])
    library = "libstd-rust-web-dev"
    described = run(["apt-cache", *options, "--no-all-versions", "show", f"{library}:amd64"])
    version = re.search(r"^Version: (\S+)", described, re.MULTILINE)
    runtime = re.search(r"libstd-rust-web-\d[\d.]*", described)
    if version is None or runtime is None:
        raise Failure(f"this system's packages have no Rust for ARM: rustup target add {TARGET}")
    install = ["install", "--download-only", "--reinstall", "--no-install-recommends", "-qq", "-y"]
    run(["apt-get", *options, *install, "rustc-web", library, runtime[0]])
    run(["apt-get", *options, "-qq", "download", f"{library}:arm64={version[1]}"], folder=archives)
    for package in sorted(archives.glob("*.deb")):
        run(["dpkg", "-x", str(package), str(folder)])
    shutil.rmtree(CACHE / "apt")
    (folder / "complete").touch()


# ---- the two halves ----


def arm() -> None:
    """The tests of the kernels crate under each processor of `ARM`."""
    need("qemu-aarch64", "qemu-user")
    need("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    start = time.monotonic()
    environment = compiler() | {
        "CARGO_TARGET_DIR": str(ROOT / "target" / "emulated"),
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER": "aarch64-linux-gnu-gcc",
        "CARGO_INCREMENTAL": "0",
        "CARGO_PROFILE_DEV_DEBUG": "0",
    }
    profile = [word for setting in PROFILE for word in ("--config", setting)]
    build = ["cargo", "test", "--locked", "-p", "densecore-kernels", "--target", TARGET, "--lib", "--tests"]
    messages = run([*build, *profile, "--no-run", "--message-format", "json-render-diagnostics"], environment)
    built = [json.loads(line) for line in messages.splitlines() if line.startswith("{")]
    tests = sorted(message["executable"] for message in built if message.get("executable"))
    if not tests:
        raise Failure("cargo built no test")
    print(f"compiled {len(tests)} test programs for ARM in {time.monotonic() - start:.0f} s", flush=True)
    for processor, tier in ARM.items():
        start, passed = time.monotonic(), 0
        for test in tests:
            emulated = ["qemu-aarch64", "-L", LIBRARIES, "-cpu", processor, test]
            output = run(emulated, {"DENSECORE_EXPECTED_TIER": tier})
            counted = re.search(r"^test result: ok\. (\d+) passed; 0 failed", output, re.MULTILINE)
            if counted is None:
                raise Failure(f"{Path(test).name} on {processor} reported no result")
            passed += int(counted[1])
        print(f"{processor}: {passed} tests passed on {tier}, {time.monotonic() - start:.0f} s", flush=True)


def x86() -> None:
    """The installed package under each processor of `X86`."""
    need("qemu-x86_64", "qemu-user")
    with tempfile.TemporaryDirectory() as scratch:
        models = tiny_models(Path(scratch))
        empty = dict.fromkeys(("DENSECORE_CACHE", "HF_HOME", "HF_HUB_CACHE"), scratch)
        for processor, tier in X86.items():
            start = time.monotonic()
            emulated = ["qemu-x86_64", "-cpu", processor, sys.executable]
            report = json.loads(run([*emulated, "-m", "densecore.doctor", "--offline", "--json"], empty))
            checks = report["self_test"]["checks"]
            if report["hardware"]["tier"] != tier or not checks or not all(check["ok"] for check in checks):
                raise Failure(f"{processor}: wanted {tier}, got {report['hardware']['tier']} with {checks}")
            probe = ["-c", PROBE, *models]
            ours = json.loads(run([*emulated, *probe]))
            native = json.loads(run([sys.executable, *probe], {"DENSECORE_TIER": tier}))
            if native["tier"] != tier:
                verdict = f"models ran (this machine has no {tier} to compare with)"
            elif ours == native:
                verdict = f"{len(models)} models equal bit for bit"
            else:
                raise Failure(f"{processor}: emulated and native results differ:\n{ours}\n{native}")
            seconds = time.monotonic() - start
            print(f"{processor}: {len(checks)} self tests passed on {tier}, {verdict}, {seconds:.0f} s", flush=True)


def tiny_models(folder: Path) -> list[str]:
    """Random models in several formats: quantised by block and by super-block, and dense halves."""
    sys.path.insert(0, str(ROOT))
    from tests import tiny

    kinds = {"qwen2": "Q8_0", "qwen3": "Q4_K", "llama": "F16"}
    return [
        str(tiny.make_tiny_gguf(arch, folder / f"{arch}-{kind}.gguf", kind, seed=3)) for arch, kind in kinds.items()
    ]


def main() -> int:
    """Run the halves that were named, both by default."""
    halves = {"arm": arm, "x86": x86}
    chosen = sys.argv[1:] or list(halves)
    if not set(chosen) <= set(halves):
        print(__doc__, file=sys.stderr)
        return 2
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("emulated tests are for x86-64 Linux; elsewhere `make test` tests the kernels there are", file=sys.stderr)
        return 2
    try:
        for half in chosen:
            halves[half]()
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
