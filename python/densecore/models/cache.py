"""Where models lie on this machine: the cache shared by all Hugging Face tools, and densecore's own.

Shared layout: ``models--org--name/blobs/<hash>``, ``snapshots/<commit>/<file>`` (links into ``blobs``) and
``refs/<revision>`` (a commit). Own layout: ``models/<first 16 digits of the SHA-256>/<file>``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from densecore import regular
from densecore.errors import StorageError
from densecore.runs import replace

from . import names
from .catalogue import Pin
from .receipt import Digest, Receipts

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_NOTE = 4096  # bytes: a reference holds a commit, a note a licence's name
_TRUE = {"1", "on", "yes", "true"}


def flag(name: str) -> bool:
    """Whether an environment variable is set to a yes."""
    return os.environ.get(name, "").strip().lower() in _TRUE


def _home() -> Path:
    return Path(os.path.expanduser("~"))


def own_root() -> Path:
    """densecore's own cache: ``$DENSECORE_CACHE``, else ``$XDG_CACHE_HOME/densecore``, else ``~/.cache/densecore``."""
    chosen = os.environ.get("DENSECORE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else _home() / ".cache") / "densecore"


def hf_home() -> Path:
    """The home of the Hugging Face tools (token, caches)."""
    chosen = os.environ.get("HF_HOME")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else _home() / ".cache") / "huggingface"


def hub_root() -> Path:
    """The shared hub cache."""
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(chosen).expanduser() if chosen else hf_home() / "hub"


def receipts() -> Receipts:
    """The notes about verified files."""
    return Receipts(own_root() / "receipts")


def _licence_file(repo: str) -> Path:
    return own_root() / "licences" / f"models--{repo.replace('/', '--')}"


def note_licence(repo: str, licence: str | None) -> None:
    """Remember the licence a repository states. A cache that cannot be written only forgets it."""
    if licence is None:
        return
    try:
        file = _licence_file(repo)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace.write(file, licence.encode())
    except OSError:
        return


def licence(repo: str) -> str | None:
    """The licence noted for a repository."""
    try:
        return regular.read(_licence_file(repo), _MAX_NOTE).decode()[:100] or None
    except (OSError, UnicodeError):
        return None


def pinned_path(pin: Pin) -> Path:
    """Where densecore's own cache keeps a pinned file."""
    return own_root() / "models" / pin.sha256[:16] / pin.file


def pinned_lock(pin: Pin) -> Path:
    """The lock for a pinned file."""
    return own_root() / "locks" / f"{pin.sha256[:16]}.lock"


@dataclass(frozen=True)
class Repo:
    """One repository in the shared cache."""

    repo: str

    @property
    def folder(self) -> Path:
        """``models--org--name``."""
        return hub_root() / f"models--{self.repo.replace('/', '--')}"

    def lock(self, etag: str) -> Path:
        """The lock file every Hugging Face tool takes for a blob."""
        return hub_root() / ".locks" / self.folder.name / f"{etag}.lock"

    def blob(self, etag: str) -> Path:
        """The content with that hash."""
        return self.folder / "blobs" / etag

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit."""
        return self.folder / "snapshots" / commit

    def commit(self, revision: str) -> str | None:
        """The commit a revision stood for when it was last downloaded."""
        if _COMMIT.fullmatch(revision):
            return revision
        try:
            ref = names.within(self.folder / "refs", revision, self.repo)
            text = regular.read(ref, _MAX_NOTE).decode("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if _COMMIT.fullmatch(text) else None

    def present(self, revision: str) -> Path | None:
        """The snapshot folder of a revision, if it is there."""
        commit = self.commit(revision)
        if commit is None:
            return None
        folder = self.snapshot(commit)
        return folder if folder.is_dir() else None

    def point(self, commit: str, file: str, etag: str) -> Path:
        """Make ``snapshots/<commit>/<file>`` show the blob: a relative link, or a copy where links fail."""
        pointer = names.within(self.snapshot(commit), file, self.repo)
        blob = self.blob(etag)
        try:
            pointer.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(pointer):
                if pointer.exists() and pointer.samefile(blob):
                    return pointer
                pointer.unlink()
            try:
                os.symlink(os.path.relpath(blob, pointer.parent), pointer)
            except (OSError, NotImplementedError):
                _copy(blob, pointer)
        except OSError as error:
            raise StorageError(
                f"cannot place {pointer}: {error.strerror or error}; make the folder writable, or set HF_HOME"
            ) from error
        return pointer

    def refer(self, revision: str, commit: str) -> None:
        """Note that ``revision`` stands for ``commit``."""
        if revision == commit:
            return
        ref = names.within(self.folder / "refs", revision, self.repo)
        try:
            ref.parent.mkdir(parents=True, exist_ok=True)
            replace.write(ref, commit.encode("ascii"))
        except OSError as error:
            raise StorageError(
                f"cannot write {ref}: {error.strerror or error}; make the folder writable, or set HF_HOME"
            ) from error


def _copy(blob: Path, pointer: Path) -> None:
    """A second name for the same bytes if the system can, else a copy, whole or not at all."""
    with replace.draft(pointer) as part:
        try:
            os.link(blob, part)
        except OSError:
            with regular.opened(blob) as source, open(part, "wb") as out:
                out.writelines(regular.blocks(source))


def expected(path: Path) -> Digest | None:
    """The hash a file of the shared cache carries in the name of its blob, if it is a link to one."""
    real = Path(os.path.realpath(path))
    return Digest.from_etag(real.name) if real.parent.name == "blobs" else None
