"""Model names to verified local files: a small catalogue, any hub id, any path.

>>> import densecore.models as models
>>> models.CATALOGUE["qwen3-0.6b"].licence
'Apache-2.0'

``resolve(name)`` gives the file, downloading it when it is not on this machine; ``python -m densecore.models`` is
the same from a shell. Nothing that opens a connection or starts a process is imported before it is needed.
"""

from __future__ import annotations

from .catalogue import CATALOGUE, Entry, HubSource, Pin, PyPISource, find
from .resolve import Resolved, resolve

__all__ = ["CATALOGUE", "Entry", "HubSource", "Pin", "PyPISource", "Resolved", "find", "resolve"]
