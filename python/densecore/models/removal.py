"""Taking a model off this machine: only what the two caches hold under its name, nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from densecore.errors import ArgumentError, StorageError

from . import cache, local, names
from .catalogue import HubSource
from .resolve import understand


@dataclass(frozen=True)
class Doomed:
    """Paths to remove (files, links and folders), and the bytes that frees."""

    paths: tuple[Path, ...]
    size: int


def plan(name: str) -> Doomed:
    """What ``rm`` would remove.

    Raises:
        ArgumentError: the name is a path of the user's own.
        ModelNotFoundError: no such name.
    """
    from .catalogue import find

    if find(name) is None and names.parse(name) is None and local.at_path(name) is not None:
        raise ArgumentError(f"{name} is a path, not a cached model; remove it yourself if you mean to")
    wish = understand(name)
    paths: list[Path] = []
    for source in wish.hub:
        paths += _of_hub(source)
    if wish.entry is not None and wish.entry.pin is not None:
        folder = cache.pinned_path(wish.entry.pin).parent
        if folder.is_dir():
            paths.append(folder)
    return Doomed(tuple(paths), sum(_weight(path) for path in paths))


def _of_hub(source: HubSource) -> list[Path]:
    """A whole repository folder, or one file of it with every blob no other file of the repository shows."""
    repo = cache.Repo(source.repo)
    if not repo.folder.is_dir():
        return []
    snapshots = [folder for folder in sorted((repo.folder / "snapshots").glob("*")) if folder.is_dir()]
    if source.revision != "main":
        commit = repo.commit(source.revision)
        snapshots = [folder for folder in snapshots if folder.name == commit]
    elif source.file is None:
        return [repo.folder]
    pointers: list[Path] = []
    for folder in snapshots:
        chosen = [folder / source.file] if source.file is not None else list(_files(folder))
        pointers += [path for path in chosen if os.path.lexists(path)]
    kept = {os.path.realpath(path) for path in _files(repo.folder / "snapshots") if path not in set(pointers)}
    blobs = {Path(os.path.realpath(path)) for path in pointers if path.is_symlink()}
    inside = Path(os.path.realpath(repo.folder / "blobs"))
    return pointers + sorted(b for b in blobs if b.parent == inside and str(b) not in kept and b.is_file())


def _files(folder: Path) -> Iterable[Path]:
    for place, _, found in os.walk(folder):
        for file in found:
            yield Path(place) / file


def _weight(path: Path) -> int:
    if path.is_symlink():
        return 0
    members = _files(path) if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in members if not file.is_symlink())


def remove(doomed: Doomed) -> None:
    """Remove what was planned, then the folders left empty.

    Raises:
        StorageError: something could not be removed.
    """
    notes, roots = cache.receipts(), (cache.hub_root(), cache.own_root())
    for path in doomed.paths:
        real = Path(os.path.realpath(path.parent)) / path.name
        if not any(Path(os.path.realpath(root)) in real.parents for root in roots):
            raise StorageError(f"{path} lies outside the caches ({roots[0]}, {roots[1]}); not removed")
        try:
            for file in _files(path) if path.is_dir() and not path.is_symlink() else [path]:
                notes.drop(file)
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
            else:
                shutil.rmtree(path)
        except OSError as error:
            raise StorageError(f"cannot remove {path}: {error.strerror or error}; check its permissions") from error
        _prune(path.parent, roots)


def _prune(folder: Path, roots: tuple[Path, ...]) -> None:
    """Remove empty folders upwards, and a repository that has no snapshot left."""
    while folder not in roots and any(root in folder.parents for root in roots):
        if folder.name.startswith("models--") and not any((folder / "snapshots").glob("*")):
            if not any((folder / "blobs").glob("*")):
                shutil.rmtree(folder, ignore_errors=True)
            return
        try:
            folder.rmdir()
        except OSError:
            if folder.name in ("blobs", "snapshots"):
                folder = folder.parent
                continue
            return
        folder = folder.parent
