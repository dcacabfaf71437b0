"""What a refusal must be: the named class, the value, a remedy, and a model that still answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from densecore.errors import DenseCoreError

# Words of a sentence that tells the reader what to do next.
REMEDY = re.compile(
    r"\b(use|try|give|given|pass|load|check|lower|raise|shorten|make|needs?|must|choose|set|take|takes|give[ns]?|split|"
    r"download|verify|supported|convert|convertible|implements?|between|at least|at most|once|from \d|finite|expected|"
    r"write|copy|name|add|remove|export|again|holds?|longer|shorter|smaller|larger|only|ask)\b",
    re.IGNORECASE,
)


def refused(
    call: Callable[[], Any], kind: type[BaseException] | tuple[type[BaseException], ...], *fragments: str
) -> str:
    """Run the call; it must raise one of the kinds, with every fragment and a remedy in the message."""
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, DenseCoreError | TypeError), type(caught.value)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment.lower() in message.lower(), f"{fragment!r} is not in {message!r}"
    assert REMEDY.search(message), f"no remedy in {message!r}"
    assert "panicked" not in message
    assert "internal error" not in message
    return message
