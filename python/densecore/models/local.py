"""What is on this machine already: local paths, and models in the two caches. No network here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from densecore.errors import ModelFormatError, ModelNotFoundError

from . import cache, pick
from .catalogue import Entry, HubSource
from .receipt import Digest

_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


@dataclass(frozen=True)
class Found:
    """A model on disk: a GGUF file or a folder, every file that belongs to it, and where it was found."""

    path: Path
    files: tuple[Path, ...]
    source: str  # "path", "hf-cache" or "cache"
    hub: HubSource | None = None
    pinned: Digest | None = None

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.stat().st_size for file in self.files)


def looks_like_path(name: str) -> bool:
    """Whether a name that is no hub id and no catalogue name can only be meant as a path."""
    return name.startswith((".", "/", "~", "\\")) or name.lower().endswith(".gguf") or os.sep in name


def at_path(name: str) -> Found | None:
    """The model at a local path, or ``None`` if there is nothing of that name.

    Raises:
        ModelFormatError: something is there, and it is no model densecore reads.
    """
    path = Path(name).expanduser()
    try:
        file, folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # a name too long, or with a NUL, is no path
        return None
    if file:
        return _file(path)
    if not folder:
        return None
    if (path / pick.CONFIG).is_file():
        absent = pick.missing(path, str(path))
        if absent:
            raise ModelFormatError(f"the folder {path} lacks {', '.join(absent[:5])}; copy the whole model folder")
        return Found(path, tuple(pick.members(path, str(path))), "path")
    ggufs = sorted(file for file in path.iterdir() if file.suffix.lower() == ".gguf" and file.is_file())
    if len(ggufs) == 1:
        return Found(ggufs[0], (ggufs[0],), "path")
    if len(ggufs) > 1:
        listed = ", ".join(file.name for file in ggufs[:8])
        raise ModelFormatError(f"the folder {path} holds {len(ggufs)} GGUF files ({listed}); give the path of one")
    if looks_like_path(name):
        raise ModelFormatError(f"the folder {path} holds neither {pick.CONFIG} nor a .gguf file; give a model folder")
    return None


def _file(path: Path) -> Found:
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        return Found(path, (path,), "path")
    if suffix in _PICKLES:
        raise ModelFormatError(
            f"{path} is a pickle by its name ({suffix}), which can run code and is never read; convert it to "
            "safetensors or GGUF"
        )
    if suffix == ".safetensors":
        raise ModelFormatError(f"{path} is one file of a safetensors model; give its folder, with {pick.CONFIG}")
    raise ModelFormatError(f"{path} is no model by its name ({suffix or 'no ending'}); give a .gguf file or a folder")


def in_hub_cache(source: HubSource) -> Found | None:
    """The model of a hub source in the shared cache, if all its files are there."""
    folder = cache.Repo(source.repo).present(source.revision)
    if folder is None:
        return None
    if source.file is not None:
        path = folder / source.file
        return Found(path, (path,), "hf-cache", source) if path.is_file() else None
    if (folder / pick.CONFIG).is_file() and not pick.missing(folder, source.repo):
        return Found(folder, tuple(pick.members(folder, source.repo)), "hf-cache", source)
    there = [file.relative_to(folder).as_posix() for file in folder.rglob("*.gguf") if file.is_file()]
    try:
        choice = pick.choose(there, source.repo)
    except ModelNotFoundError:
        return None
    if choice.gguf is None:
        return None
    path = folder / choice.gguf
    return Found(path, (path,), "hf-cache", source)


def of_entry(entry: Entry) -> Found | None:
    """A catalogue model in either cache, the shared one first."""
    return next(all_of(entry), None)


def all_of(entry: Entry) -> Iterator[Found]:
    """Every copy of a catalogue model in the caches."""
    for source in entry.hub:
        found = in_hub_cache(source)
        if found is None:
            continue
        pinned = None
        if entry.pin is not None and source.file == entry.pin.file:
            pinned = Digest("sha256", entry.pin.sha256)
            named = cache.expected(found.path)
            if named is not None and named != pinned:
                continue  # another file under the same name, sound perhaps, but not the one this name stands for
        yield Found(found.path, found.files, found.source, source, pinned)
    if entry.pin is not None:
        path = cache.pinned_path(entry.pin)
        if path.is_file():
            yield Found(path, (path,), "cache", None, Digest("sha256", entry.pin.sha256))


def places(hub: tuple[HubSource, ...], entry: Entry | None) -> list[str]:
    """Where a model would lie, for the message that it lies in none of them."""
    looked = [f"{cache.Repo(source.repo).folder} ({source.label}@{source.revision})" for source in hub]
    if entry is not None and entry.pin is not None:
        looked.append(str(cache.pinned_path(entry.pin)))
    return looked
