"""A chat with everything its template is to know: tools, a template by name, an answer already begun, variables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from densecore.errors import ArgumentError, PromptError, TokenizerError

DEPTH = 24
"""Lists and dicts within each other; templates are given no deeper values."""


class Chat:
    """Messages for the model's chat template, and what goes with them. A prompt wherever a list of messages is one.

    Args:
        messages: ``{"role": ..., "content": ...}`` and what else the template reads: ``name``, ``tool_calls``,
            ``tool_call_id``, ``reasoning_content`` and so on. A content may be None where there are ``tool_calls``.
        tools: JSON schemas of functions that the model may call.
        template: Which of the model's templates (``Model.chat_templates``). By default ``"tool_use"`` where there is one and
            tools are given, else ``"default"``.
        continue_final_message: Go on within the last message instead of opening a new one.
        variables: What the template reads beside these, such as ``enable_thinking=False``.

    What the template does not read is refused by name.

    >>> Chat([{"role": "user", "content": "Hi"}], enable_thinking=False)
    Chat([{'role': 'user', 'content': 'Hi'}], enable_thinking=False)
    """

    __slots__ = ("continue_final_message", "messages", "template", "tools", "variables")

    def __init__(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> None:
        if not isinstance(messages, (list, tuple)) or not all(isinstance(m, Mapping) for m in messages):
            raise PromptError(f'messages = {messages!r:.80}: give a list of {{"role": ..., "content": ...}}')
        if not messages:
            raise PromptError("the list of messages is empty; give at least one message")
        if template is not None and not isinstance(template, str):
            raise ArgumentError(f"template = {template!r:.80}: give the name of one of the model's templates")
        if not isinstance(continue_final_message, bool):
            raise ArgumentError(f"continue_final_message = {continue_final_message!r:.80}: it must be True or False")
        self.messages = list(messages)
        self.tools = _tools(tools)
        self.template = template
        self.continue_final_message = continue_final_message
        self.variables = variables

    def __repr__(self) -> str:
        more = {
            "tools": self.tools,
            "template": self.template,
            "continue_final_message": self.continue_final_message or None,
        }
        given = {name: value for name, value in more.items() if value is not None} | self.variables
        return f"Chat({', '.join([repr(self.messages), *(f'{name}={value!r}' for name, value in given.items())])})"


def _tools(tools: Any) -> list[Any] | None:
    if tools is None:
        return None
    if not isinstance(tools, (list, tuple)):
        raise PromptError(f"tools = {tools!r:.80}: give a list of JSON schemas")
    for tool in tools:
        if callable(tool) and not isinstance(tool, Mapping):
            raise PromptError(
                f"tools holds {tool!r:.80}, which is callable: give its JSON schema, "
                '{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'
            )
        if not isinstance(tool, Mapping):
            raise PromptError(f"tools holds {tool!r:.80} ({type(tool).__name__}): give JSON schemas, one dict a tool")
    return list(tools)


def checked(value: str) -> str:
    """Text that has a form in UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(f"the text cannot be encoded: {error}; remove lone surrogates") from None
    return value


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """The value as ``None``, ``bool``, ``int``, ``float``, ``str``, lists and dicts; anything else is refused by its place."""
    if depth > DEPTH:
        raise PromptError(f"{where}: it is nested over {DEPTH} deep; give a flatter value")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return checked(str.__str__(value))
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise PromptError(f"{where} = {value!r:.80}: whole numbers must fit into 64 bits; give it as a str")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise PromptError(f"{where} = {value!r}: numbers must be finite; give it as a str")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise PromptError(f"{where} has the key {key!r:.80}: keys must be of kind str")
        return {checked(key): plain(item, f"{where}.{key:.40}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{place}]", depth + 1) for place, item in enumerate(value)]
    raise PromptError(
        f"{where} = {value!r:.80} ({type(value).__name__}): give what JSON knows: None, bool, int, float, str, list or dict"
    )
