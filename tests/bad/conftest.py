"""The tiny models of the golden tests, and the check every refused call goes through."""

from __future__ import annotations

from tests.golden.fixtures import other, small

__all__ = ["other", "small"]
