"""Is a file on disk the one it should be? Hashed once, remembered by a receipt, hashed again on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from densecore.errors import IntegrityError

from . import cache, receipt
from .receipt import Digest


@dataclass(frozen=True)
class Verdict:
    """One file: what it should be, and what it is. ``expected`` is ``None`` when nothing tells what it should be."""

    path: Path
    size: int
    expected: Digest | None
    found: Digest

    @property
    def sound(self) -> bool | None:
        """``True``, ``False``, or ``None`` when there is nothing to compare with."""
        return None if self.expected is None else self.found == self.expected


def expectation(path: Path, pinned: Digest | None = None) -> Digest | None:
    """What ``path`` should hash to: a pinned hash, the name of its blob, or what it was when downloaded."""
    return pinned or cache.expected(path) or cache.receipts().recorded(path)


def trust(
    path: Path, name: str, pinned: Digest | None = None, step: Callable[[int], None] | None = None
) -> Digest | None:
    """The digest of a cached file; hashed only if no receipt fits it.

    Raises:
        IntegrityError: the file is not what it should be.
    """
    notes, wanted = cache.receipts(), expectation(path, pinned)
    if wanted is None:
        return None
    if notes.read(path) == wanted:
        return wanted
    found = receipt.hash_file(path, wanted.kind, step)
    if found != wanted:
        raise IntegrityError(damage(path, wanted, found, name))
    notes.write(path, found)
    return found


def again(
    paths: Iterable[Path], pinned: Digest | None = None, step: Callable[[int], None] | None = None
) -> list[Verdict]:
    """Hash every file anew, whatever the receipts say."""
    notes, verdicts = cache.receipts(), []
    for path in paths:
        wanted = expectation(path, pinned)
        found = receipt.hash_file(path, wanted.kind if wanted else "sha256", step)
        if wanted == found:
            notes.write(path, found)
        elif wanted is not None and cache.expected(path) is not None:
            notes.drop(path)
        verdicts.append(Verdict(path, path.stat().st_size, wanted, found))
    return verdicts


def damage(path: Path, wanted: Digest, found: Digest, name: str) -> str:
    """What to say about a file that is not what it should be."""
    return (
        f"{path} is damaged: it has {found}, expected {wanted}. Remove it and download it again: "
        f"`python -m densecore.models rm {name}`, then `python -m densecore.models pull {name}`"
    )
