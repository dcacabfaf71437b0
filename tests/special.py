"""What may stand where a file should: devices, pipes, sockets, folders, links to nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def sock(place: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)  # the name of a socket may have some hundred bytes only
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(place.name)
    finally:
        os.chdir(here)


def loop(place: Path) -> None:
    place.symlink_to(place.name)


def pipe(place: Path) -> None:
    os.mkfifo(place)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "device": (device, "a device"),
    "pipe": (pipe, "a named pipe"),
    "socket": (sock, "a socket"),
    "folder": (lambda place: place.mkdir(), "a folder"),
    "link to itself": (loop, "failed"),
}
"""How each is made, and what an error calls it."""
