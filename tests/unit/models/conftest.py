"""A hub on the loopback, caches in a temporary folder, and nothing of the machine's own settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import hubserver

from densecore.models import fetch, hub

_VARIABLES = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE",
    "XDG_CACHE_HOME", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("DENSECORE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nothing listens
    monkeypatch.setattr(fetch, "POLICY", replace(fetch.POLICY, stall=2.0, backoff=0.01))
    hub.forget()
    yield
    hub.forget()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[hubserver.Hub]:
    with hubserver.running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running
