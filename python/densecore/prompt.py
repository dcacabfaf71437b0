"""Prompts: text, ids and vectors, alone or in lists.

One prompt is

* a ``str``, taken as it stands (special tokens written in it stay text),
* a :class:`Prompt`, or a ``tuple``, of segments: ``str``, :class:`Ids`, ``list[int]``, :class:`~densecore.Hidden`,
  arrays and tensors ``(T, d)``,
* a list of ``{"role": ..., "content": ...}`` messages, put through the model's chat template; a content is a text or
  itself a list of segments,
* a list that holds at least one vector or ids segment beside anything else.

A list of ``str``, or a list of lists, tuples and prompts, is a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any, TypeGuard

from densecore.errors import ArgumentError, PromptError, TokenizerError
from densecore.hidden import Hidden, segment

if TYPE_CHECKING:
    from densecore import wire
    from densecore.kinds import Tensor
    from densecore.model import Model


class Ids(list[int]):
    """Token ids as a segment of a prompt.

    >>> Ids([1, 2, 3])
    Ids([1, 2, 3])
    """

    def __repr__(self) -> str:
        return f"Ids({list(self)})"


class Prompt:
    """Segments that make one prompt, however they look.

    >>> Prompt("The answer is ", Ids([17]))
    Prompt('The answer is ', Ids([17]))
    """

    __slots__ = ("segments",)

    def __init__(self, *segments: Any) -> None:
        self.segments = segments

    def __repr__(self) -> str:
        return f"Prompt({', '.join(map(repr, self.segments))})"


def read(value: Any, model: Model) -> tuple[list[wire.Prompt], bool]:
    """The engine's form of one prompt or a list of them, and whether it was a list."""
    if _is_batch(value):
        if not value:
            raise PromptError("the list of prompts is empty; give at least one prompt")
        return [one(v, model) for v in value], True
    return [one(value, model)], False


def one(value: object, model: Model) -> wire.Prompt:
    """The engine's form of a single prompt."""
    if isinstance(value, str):
        return "plain", [_text(value)]
    if isinstance(value, Prompt):
        return "plain", [_segment(s, model) for s in value.segments]
    if isinstance(value, Ids) or _is_vectors(value) or _is_ids(value):
        return "plain", [_segment(value, model)]
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(v, dict) for v in value):
            return "chat", [_turn(v, model) for v in value]
        return "plain", [_segment(s, model) for s in value]
    raise PromptError(
        f"{value!r:.80} ({type(value).__name__}) is no prompt; give a str, a list of messages, or a list of segments"
    )


def _is_batch(value: Any) -> bool:
    if not isinstance(value, list) or isinstance(value, Ids):
        return False
    if not value or all(isinstance(v, str) for v in value):
        return True
    if any(isinstance(v, str) for v in value) and any(_is_ids(v) and not isinstance(v, Ids) for v in value):
        raise PromptError(
            f"{value!r:.80} could be one prompt or several; write Prompt(...) for one, or Prompt(...) around each of several"
        )
    # A prompt of its own: chat, segments, or a list of ids.
    return all(isinstance(v, (str, list, tuple, Prompt)) and not isinstance(v, Ids) for v in value) and any(
        isinstance(v, (tuple, Prompt, list)) for v in value
    )


def _is_vectors(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Hidden) or hasattr(value, "__dlpack__") or hasattr(value, "__array_interface__")


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, int) for v in value)


def _segment(value: object, model: Model) -> wire.Segment:
    if isinstance(value, str):
        return _text(value)
    if _is_vectors(value):
        return segment(value, model)._core
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return ids(value)
    raise PromptError(
        f"{value!r:.80} ({type(value).__name__}) is no segment; give str, ids (densecore.Ids), or vectors (T, d)"
    )


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(f"the text cannot be encoded: {error}; remove lone surrogates") from None
    return value


def ids(values: Sequence[Any]) -> list[int]:
    """Token ids, checked to be whole numbers the engine can hold."""
    checked = []
    for value in values:
        try:
            number = index(value)
        except TypeError:
            raise ArgumentError(f"token id = {value!r:.80}: ids are whole numbers from 0") from None
        if not 0 <= number < 2**32 or isinstance(value, bool):
            raise ArgumentError(f"token id = {value!r:.80}: ids are whole numbers from 0")
        checked.append(number)
    return checked


def _turn(message: dict[str, Any], model: Model) -> tuple[str, list[wire.Segment]]:
    if "role" not in message or "content" not in message:
        raise PromptError(f'message {message!r:.120} needs the keys "role" and "content"')
    role, content = message["role"], message["content"]
    if not isinstance(role, str):
        raise PromptError(f'role = {role!r:.80}: it must be a str such as "user"')
    if isinstance(content, (str, Ids)) or _is_vectors(content):
        content = [content]
    elif isinstance(content, Prompt):
        content = content.segments
    elif not isinstance(content, (list, tuple)):
        raise PromptError(f"content = {content!r:.80} ({type(content).__name__}): give a str or a list of segments")
    return _text(role), [_segment(s, model) for s in content]


def messages_as_text(messages: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Messages whose contents are text only."""
    pairs = []
    for message in messages:
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise PromptError(f'message {message!r:.120} needs the keys "role" and "content"')
        content = message["content"]
        if isinstance(content, (list, tuple)) and all(isinstance(c, str) for c in content):
            content = "".join(content)
        if not isinstance(content, str) or not isinstance(message["role"], str):
            raise PromptError(f"message {message!r:.120} holds more than text; only text can be rendered as text")
        pairs.append((_text(message["role"]), _text(content)))
    return pairs
