"""Rows from the Hugging Face hub, through its package ``datasets``, which is loaded here and nowhere else."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any, overload

from densecore.errors import DownloadError, MissingExtraError, OfflineError

from .record import Record
from .splits import Hub

NAME = "hub"
"""What to give in place of a folder; a folder of that name is ``./hub``."""


def read(hub: Hub) -> Sequence[Record]:
    """The rows of one split's source. They are converted when they are asked for: some sets are large."""
    library = _library()
    parts = [_part(library, hub, part) for part in hub.parts]
    if hub.order is None and len(parts) == 1:
        return _Rows(parts[0], f"{_called(hub)}, {hub.parts[0]}")
    rows = [row for part in parts for row in part]
    if hub.order is not None:
        rows.sort(key=hub.order)
    return [Record(row, index, f"{_called(hub)}, row {index}") for index, row in enumerate(rows)]


class _Rows(Sequence[Record]):
    """A hub data set as records."""

    def __init__(self, rows: Any, place: str) -> None:
        self._rows, self._place = rows, place

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return Record(self._rows[index], index, f"{self._place}, row {index}")


def _called(hub: Hub) -> str:
    return " ".join(filter(None, (hub.repository, hub.configuration)))


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "on", "yes", "true"}


def _library() -> Any:
    try:
        library = importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise MissingExtraError(
            "rows from the hub need the package datasets; install it with: pip install datasets; or name a local "
            "folder (--data FOLDER, DENSECORE_DATA)"
        ) from error
    # The library looks at the environment once, when it is imported.
    if _offline() and not getattr(getattr(library, "config", None), "HF_HUB_OFFLINE", True):
        raise OfflineError(
            "HF_HUB_OFFLINE is set, but the package datasets was imported before it was, or HF_DATASETS_OFFLINE says "
            "otherwise: it would use the network; set HF_HUB_OFFLINE before Python starts, unset HF_DATASETS_OFFLINE"
        )
    return library


def _part(library: Any, hub: Hub, part: str) -> Any:
    try:
        return library.load_dataset(hub.repository, hub.configuration, split=part)
    except Exception as error:
        # The library raises errors of five packages, most of them plain Exception.
        what = f"{_called(hub)}, {part}: {type(error).__name__}: {error!s:.300}"
        if _offline():
            raise OfflineError(
                f"{what}; HF_HUB_OFFLINE is set, so only rows that were downloaded before can be read: unset it, or "
                "name a local folder (--data FOLDER, DENSECORE_DATA)"
            ) from error
        raise DownloadError(f"{what}; try again, or name a local folder (--data FOLDER, DENSECORE_DATA)") from error
