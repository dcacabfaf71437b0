"""Prompts: text, ids and vectors, alone or in lists.

One prompt is

* a ``str``, taken as it stands (special tokens written in it stay text),
* a :class:`Prompt`, or a ``tuple``, of segments: ``str``, :class:`Ids`, ``list[int]``, :class:`~densecore.Hidden`,
  arrays and tensors ``(T, d)``,
* a list of ``{"role": ..., "content": ...}`` messages, put through the model's chat template; a content is a text or
  itself a list of segments,
* a :class:`~densecore.Chat`: such a list with tools, a template by name, variables, or an answer already begun,
* a list that holds at least one vector or ids segment beside anything else.

A list of ``str``, or a list of lists, tuples, chats and prompts, is a batch.

A prompt of the second kind and a ``str``, where they begin with text, get the begin token (``Model.bos_id``) before it where
the model's files say so; templates write it themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, TypeGuard

from densecore.chat import Chat, checked, plain
from densecore.errors import ArgumentError, PromptError
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
        return "plain", [checked(value)]
    if isinstance(value, Prompt):
        return "plain", [_segment(s, model) for s in value.segments]
    if isinstance(value, Chat):
        return "chat", chat(value, model)
    if isinstance(value, Ids) or _is_vectors(value) or _is_ids(value):
        return "plain", [_segment(value, model)]
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(v, dict) for v in value):
            return "chat", chat(Chat(value), model)
        return "plain", [_segment(s, model) for s in value]
    raise PromptError(
        f"{value!r:.80} ({type(value).__name__}) is no prompt; give a str, a list of messages, a Chat, or a list of segments"
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
    return all(isinstance(v, (str, list, tuple, Prompt, Chat)) and not isinstance(v, Ids) for v in value) and any(
        isinstance(v, (tuple, Prompt, Chat, list)) for v in value
    )


def _is_vectors(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Hidden) or hasattr(value, "__dlpack__") or hasattr(value, "__array_interface__")


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, int) for v in value)


def _segment(value: object, model: Model) -> wire.Segment:
    if isinstance(value, str):
        return checked(value)
    if _is_vectors(value):
        return segment(value, model)._core
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return ids(value)
    raise PromptError(
        f"{value!r:.80} ({type(value).__name__}) is no segment; give str, ids (densecore.Ids), or vectors (T, d)"
    )


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


def chat(value: Chat, model: Model, ending: str = "prompt") -> wire.Chat:
    """The engine's form of a chat; ``ending`` is what follows the last message unless that is gone on with."""
    variables = dict(value.variables)
    if value.tools is not None:
        variables["tools"] = value.tools
    named = [(checked(name), plain(given, name)) for name, given in variables.items()]
    messages = [_message(m, f"message {place}", model) for place, m in enumerate(value.messages)]
    return messages, named, value.template, "content" if value.continue_final_message else ending


def _message(message: Mapping[str, Any], where: str, model: Model) -> list[tuple[str, Any]]:
    if not isinstance(message.get("role"), str):
        raise PromptError(f'{where} = {message!r:.120} needs the key "role", a str such as "user"')
    if message.get("content") is None and not message.get("tool_calls"):
        raise PromptError(f'{where} = {message!r:.120} needs the key "content", or "tool_calls" in its place')
    entries: list[tuple[str, Any]] = []
    for key, value in message.items():
        if not isinstance(key, str):
            raise PromptError(f"{where} has the key {key!r:.80}: keys must be of kind str")
        if key == "content" and value is not None:
            entries.append((key, [_segment(s, model) for s in _content(value, where)]))
        else:
            entries.append((checked(key), plain(value, f"{where}.{key:.40}")))
    return entries


def _content(content: Any, where: str) -> Sequence[Any]:
    """The segments of a content."""
    if isinstance(content, (str, Ids)) or _is_vectors(content):
        return [content]
    if isinstance(content, Prompt):
        return content.segments
    if isinstance(content, (list, tuple)):
        return [_part(part, where) if isinstance(part, Mapping) else part for part in content]
    raise PromptError(f"{where}.content = {content!r:.80} ({type(content).__name__}): give a str or a list of segments")


def _part(part: Mapping[str, Any], where: str) -> str:
    kind, text = part.get("type"), part.get("text")
    if kind != "text" or not isinstance(text, str) or len(part) > 2:
        raise PromptError(
            f"{where} has a content part of type {kind!r:.40} with the keys {', '.join(map(str, part)):.80}: "
            'give {"type": "text", "text": ...}; only text is supported'
        )
    return text


def text_only(messages: Sequence[tuple[str, Any]], where: str) -> None:
    """Refuse contents that have no text."""
    for key, value in messages:
        if key == "content" and value is not None and not all(isinstance(part, str) for part in value):
            raise PromptError(f"{where} holds more than text; only text can be rendered as text")
