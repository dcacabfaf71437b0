"""Checks of arguments that Python alone can make: kinds of values. Ranges are the engine's business."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

from densecore import _core
from densecore.errors import ArgumentError
from densecore.prompt import ids as token_ids

if TYPE_CHECKING:
    from densecore import wire
    from densecore.kinds import Stop
    from densecore.model import Model


class Cancel:
    """A request to stop that any thread may make; give one to as many calls as you like.

    >>> cancel = Cancel()
    >>> cancel.cancel()
    >>> cancel.cancelled
    True
    """

    __slots__ = ("_core",)

    def __init__(self) -> None:
        self._core = _core.CancelFlag()

    def cancel(self) -> None:
        """Ask every call that got this to stop at its next step."""
        self._core.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._core.cancelled


def whole(name: str, value: Any, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number in a range; a bool is none."""
    try:
        number = index(value)
    except TypeError:
        raise ArgumentError(f"{name} = {value!r:.80}: it must be a whole number") from None
    if isinstance(value, bool) or not least <= number <= most:
        raise ArgumentError(f"{name} = {value!r:.80}: it must be a whole number from {least} to {most}")
    return number


def optional(name: str, value: Any, least: int = 0, most: int = 2**63 - 1) -> int | None:
    """A whole number, or None."""
    return None if value is None else whole(name, value, least, most)


def truth(name: str, value: Any) -> bool:
    """True or False, and nothing that might be meant so."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} = {value!r:.80}: it must be True or False")
    return value


def number(name: str, value: Any) -> float:
    """A float; a text or a bool is none."""
    if isinstance(value, (str, bytes, bool)):
        raise ArgumentError(f"{name} = {value!r:.80}: it must be a number")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} = {value!r:.80}: it must be a number") from None


def flag(cancel: object) -> _core.CancelFlag | None:
    """The engine's side of a :class:`Cancel`."""
    if cancel is None:
        return None
    if not isinstance(cancel, Cancel):
        raise ArgumentError(f"cancel = {cancel!r:.80}: it must be a densecore.Cancel")
    return cancel._core


def salt(name: str, value: Any) -> str | None:
    """A salt of kept prefixes, or None. No message shows one."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ArgumentError(f"{name} = a value of type {type(value).__name__}: it must be a str or None")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ArgumentError(f"{name} = a text of {len(value)} characters: it cannot be encoded; remove lone surrogates")
    return value


def texts(name: str, value: Any) -> list[str]:
    """One text or several, as a list."""
    found = [value] if isinstance(value, str) else list(value or ())
    for text in found:
        if not isinstance(text, str):
            raise ArgumentError(f"{name} = {text!r:.80}: each {name} must be a str")
    return found


def think_options(
    model: Model,
    steps: int,
    mode: str,
    temperature: float,
    top_k: int,
    stop: Stop,
    ignore_eos: bool,
    cache_salt: str | None = None,
) -> wire.ThinkOptions:
    """The engine's options of latent steps."""
    stops: list[int] = []
    for s in [stop] if isinstance(stop, (str, int)) else list(stop or ()):
        if isinstance(s, str):
            found = model.tokenize(s, special=True)
            if len(found) != 1:
                raise ArgumentError(
                    f"stop = {s!r:.80}: latent steps stop at single tokens, and this text is {len(found)}; give token ids"
                )
            stops += found
        else:
            stops += token_ids([s])
    return {
        "steps": whole("steps", steps),
        "mode": str(mode),
        "temperature": number("temperature", temperature),
        "top_k": whole("top_k", top_k),
        "stop": stops,
        "ignore_eos": bool(ignore_eos),
        "cache_salt": salt("cache_salt", cache_salt),
    }
