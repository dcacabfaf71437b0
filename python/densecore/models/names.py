"""Names from outside: hub ids typed by a person, file names sent by a server.

A file name is checked under POSIX and Windows rules alike, whatever system this is, because the cache may be
shared or copied; then the joined path is checked for containment.

>>> parse("Qwen/Qwen3-0.6B@main:model.gguf")
HubId(repo='Qwen/Qwen3-0.6B', revision='main', file='model.gguf')
>>> parse("qwen3-0.6b") is None
True
>>> fault("weights/model.safetensors") is None
True
>>> fault("..\\\\model.gguf")
"goes up a folder ('..')"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from densecore.errors import ArgumentError, ModelFormatError

_REPO = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB_ID = re.compile(rf"(?P<repo>{_REPO})(?:@(?P<rev>[^@:\s]+))?(?::(?P<file>[^\s]+))?")
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {
    f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"
}
_MAX_NAME = 512  # characters; the hub's own names stay far below, and Windows paths break above
_MAX_PART = 200  # characters between two slashes; file systems stop at 255 bytes


@dataclass(frozen=True)
class HubId:
    """``org/name``, with an optional ``@revision`` and ``:file``."""

    repo: str
    revision: str = "main"
    file: str | None = None


def parse(text: str) -> HubId | None:
    """Read ``org/name[@revision][:file]``; ``None`` if ``text`` is no hub id.

    Raises:
        ArgumentError: the text is a hub id, but its revision or file could leave the cache folder.
    """
    match = _HUB_ID.fullmatch(text)
    if match is None:
        return None
    repo, revision, file = match["repo"], match["rev"] or "main", match["file"]
    for part in repo.split("/"):
        if ".." in part or "--" in part or part.endswith((".", "-")) or fault(part):
            raise ArgumentError(f"{text!r}: {part!r} is not a name the hub allows; write org/name[@revision][:file]")
    for kind, value in (("revision", revision), ("file", file)):
        reason = fault(value) if value is not None else None
        if reason:
            raise ArgumentError(f"{text!r}: the {kind} {value!r} {reason}; give a plain relative name")
    return HubId(repo, revision, file)


def fault(name: str) -> str | None:
    """Why ``name`` is not a safe relative file name on any system, or ``None`` if it is."""
    if not name or len(name) > _MAX_NAME:
        return f"has {len(name)} characters (1 to {_MAX_NAME} allowed)"
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        return "holds a control character"
    if name[0] in "/\\":
        return "is an absolute or UNC path"
    if re.match(r"[A-Za-z]:", name):
        return "names a drive"
    for part in re.split(r"[/\\]", name):
        reason = _part_fault(part)
        if reason:
            return reason
    # A backslash is a separator on Windows and a letter elsewhere: the same name would mean two files.
    return "holds a backslash" if "\\" in name else None


def _part_fault(part: str) -> str | None:
    if part == "..":
        return "goes up a folder ('..')"
    if part in ("", "."):
        return "has an empty folder name"
    if len(part.encode("utf-8", "surrogatepass")) > _MAX_PART:
        return f"has a part longer than {_MAX_PART} bytes"
    if any("\ud800" <= char <= "\udfff" for char in part):
        return "is not valid Unicode"
    if set(part) & set('<>:"|?*'):
        return "holds a character Windows forbids"
    if part.endswith((".", " ")) or part.startswith(" "):
        return "starts or ends with a space or ends with a dot (Windows drops those)"
    if part.split(".")[0].rstrip(" ").lower() in _DEVICES:
        return f"is the Windows device {part.split('.')[0]!r}"
    return None


def within(folder: Path, name: str, origin: str) -> Path:
    """``folder / name`` after every check; ``origin`` says who sent the name.

    Raises:
        ModelFormatError: the name could leave the folder.
    """
    reason = fault(name)
    path = folder / name
    if reason is None:
        # Only the parent is resolved: the file itself is a link into blobs/ by design.
        base = folder.resolve()
        parent = path.parent.resolve()
        if parent != base and base not in parent.parents:
            reason = f"leads out of {folder}"
    if reason is not None:
        raise ModelFormatError(f"{origin} names a file {name!r}, which {reason}; refused, nothing was written")
    return path
