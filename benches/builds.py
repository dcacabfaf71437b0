"""Another build of densecore, such as the wheel of an earlier commit, made ready to be a side of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DIGITS = 16  # of an engine's digest, as results show it


class BuildUnusable(Exception):
    """What was given is no build of densecore that runs here; the text says why."""


@dataclass(frozen=True)
class Build:
    """A folder for the front of `sys.path`, and what a result says about it."""

    folder: Path
    name: str
    engine: str  # digest of the compiled library
    sha256: str | None = None  # of the wheel; an unpacked folder has none

    def facts(self) -> dict[str, str | None]:
        """What a result says about this build."""
        return {"name": self.name, "engine": self.engine, "wheel_sha256": self.sha256}

    def environment(self) -> dict[str, str]:
        """Of a process that is to import this build, whatever else is installed."""
        places = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def digest(library: Path) -> str:
    """The engine's identity in results: the beginning of its library's SHA-256."""
    return hashlib.sha256(library.read_bytes()).hexdigest()[:DIGITS]


@contextlib.contextmanager
def opened(given: Path) -> Iterator[Build]:
    """A build from a wheel, or from a folder that holds an unpacked `densecore` package; a wheel is unpacked meanwhile."""
    if given.is_dir():
        yield _checked(given.resolve(), given.name, None)
        return
    try:
        content = given.read_bytes()
    except OSError as error:
        raise BuildUnusable(f"{given}: {error.strerror}; give a wheel file, or a folder with densecore in it") from None
    with tempfile.TemporaryDirectory(prefix="densecore-build-") as scratch:
        try:
            with zipfile.ZipFile(given) as packed:
                packed.extractall(scratch)
        except zipfile.BadZipFile:
            raise BuildUnusable(f"{given} is no wheel; give one, or a folder with densecore in it") from None
        yield _checked(Path(scratch).resolve(), given.name, hashlib.sha256(content).hexdigest())


def _checked(folder: Path, name: str, sha256: str | None) -> Build:
    """The build, once a process has imported it and said from where."""
    libraries = sorted((folder / "densecore").glob("_core.*.so"))
    if len(libraries) != 1:
        raise BuildUnusable(f"{name} holds {len(libraries)} libraries densecore/_core.*.so where it should hold one")
    build = Build(folder, name, digest(libraries[0]), sha256)
    code = "import densecore._core as core; print(core.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=build.environment(), capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise BuildUnusable(f"{name} cannot be imported here: {ran.stderr.strip().splitlines()[-1]}")
    if Path(ran.stdout.strip()).resolve() != libraries[0].resolve():
        raise BuildUnusable(f"{name} was not imported, but {ran.stdout.strip()}; something stands before PYTHONPATH")
    return build
