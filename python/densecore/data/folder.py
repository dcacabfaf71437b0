"""The folder of local data: where it is, and its JSON Lines files, read with suspicion.

A folder holds one folder a set. The names of the files are those in ``SPLITS`` of each set's module; a set also takes
``SET/SPLIT.jsonl``, so that rows of one's own need no other names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NoReturn

from densecore.errors import ArgumentError, DataError, StorageError

from .record import Record

VARIABLE = "DENSECORE_DATA"
"""The environment variable that names the data folder."""

# Bytes. The longest rows of the public sets have some 20 kB: a line beyond this is a file without line ends.
MAX_LINE = 16 * 2**20


def named(folder: str | os.PathLike[str] | None) -> str | None:
    """What the caller or else the environment named, or None.

    >>> named("rows")
    'rows'
    """
    if folder is None:
        return os.environ.get(VARIABLE) or None
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise ArgumentError(f"folder = {folder!r:.80}: it must be a path, or None to follow {VARIABLE}")
    return os.fsdecode(folder)


def find(folder: str | os.PathLike[str] | None = None) -> Path:
    """The data folder: ``folder``, else ``$DENSECORE_DATA``; a clear error where neither names one."""
    name = named(folder)
    if name is None:
        raise DataError(
            f"no data folder is named: give folder=... (--data FOLDER), or set {VARIABLE}, to the folder that holds "
            "gsm8k/, squad/ and so on; 'hub' in its place downloads the rows (pip install datasets); the set "
            "'problems' needs neither"
        )
    path = Path(name).expanduser()
    if not path.is_dir():
        origin = VARIABLE if folder is None else "folder"
        raise DataError(
            f"{origin} = {name!r:.200}: there is no such folder; name the one that holds gsm8k/, squad/ ..."
        )
    return path


def file(folder: Path, candidates: tuple[str, ...], what: str) -> Path:
    """The first of the candidates that is a file in the folder; ``what`` says in the error what it was wanted for."""
    for candidate in candidates:
        path = folder / candidate
        if path.is_file():
            return path
    wanted = candidates[0] + "".join(f", nor {other}" for other in candidates[1:])
    raise DataError(f"{what}: {folder} holds no {wanted}; name the folder that does, or 'hub' to download the rows")


def read(path: Path) -> list[Record]:
    """The rows of a JSON Lines file, at least one; lines of white space are passed over."""
    records: list[Record] = []
    try:
        with path.open("rb") as lines:
            number = 0
            while line := lines.readline(MAX_LINE + 1):
                number += 1
                place = f"{path}, line {number}"
                if len(line) > MAX_LINE:
                    raise DataError(f"{place}: longer than {MAX_LINE} bytes; a file of JSON Lines has one row a line")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # the byte order mark some editors write
                if line.strip():
                    records.append(Record(_row(line, place), len(records), place))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    if not records:
        raise DataError(f"{path} holds no rows: a file of JSON Lines has one object a line")
    return records


def _row(line: bytes, place: str) -> dict[str, object]:
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place}, column {error.colno}: no JSON ({error.msg}); a file of JSON Lines has one object a line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: no usable JSON ({error!s:.120})") from None
    if not isinstance(value, dict):
        raise DataError(f"{place}: a row must be an object {{...}}, and this is {type(value).__name__}: {value!r:.60}")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
