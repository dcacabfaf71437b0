"""Chats that hold what cannot be used: each is refused by name, and nothing is dropped."""

from __future__ import annotations

from typing import Any

import pytest

from densecore import Chat
from densecore.errors import ArgumentError, PromptError, TokenizerError
from tests.bad.refusal import refused
from tests.golden.fixtures import Pair

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALLS = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def f() -> None:
    """A function that is no schema."""


# The small model's template reads role and content and nothing else.
MESSAGES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "unknown key": ([USER | {"mood": "good"}], ("message 0", "'mood'")),
    "name": ([USER, USER | {"name": "Ann"}], ("message 1", "name")),
    "tool calls": ([{"role": "assistant", "content": "", "tool_calls": CALLS}], ("tool_calls",)),
    "reasoning": ([{"role": "assistant", "content": "", "reasoning_content": "hm"}], ("reasoning_content",)),
    "tool call id": ([{"role": "tool", "content": "1", "tool_call_id": "1"}], ("tool_call_id",)),
    "no content": ([{"role": "user"}], ("content", "tool_calls")),
    "content None": ([{"role": "user", "content": None}], ("content",)),
    "no role": ([{"content": "a"}], ("role",)),
    "role of another kind": ([{"role": 1, "content": "a"}], ("role",)),
    "image": ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], ("image", "text")),
    "part without a type": ([{"role": "user", "content": [{"text": "x"}]}], ("None",)),
    "part with more": ([{"role": "user", "content": [{"type": "text", "text": "x", "cache": 1}]}], ("cache",)),
    "object": ([USER | {"name": object()}], ("message 0.name", "object")),
    "key of another kind": ([USER | {1: "a"}], ("key",)),
    "not a number": ([USER | {"x": float("nan")}], ("nan",)),
    "too large": ([USER | {"x": 2**70}], ("64 bits",)),
    "too deep": ([USER | {"x": deep(100)}], ("deep",)),
}


@pytest.mark.parametrize("name", list(MESSAGES))
def test_messages(small: Pair, name: str) -> None:
    messages, fragments = MESSAGES[name]
    fragments = tuple(fragment.replace("'", '"') for fragment in fragments)
    for call in (
        lambda: small.ours.generate(messages, max_tokens=1),
        lambda: small.ours.generate(Chat(messages), max_tokens=1),
        lambda: small.ours.apply_chat_template(messages),
    ):
        refused(call, PromptError, *fragments)
    assert small.ours.generate([USER], max_tokens=1, ignore_eos=True).ids


CHATS: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "tools": ({"tools": [TOOL]}, PromptError, ("tools",)),
    "variable": ({"enable_thinking": False}, PromptError, ("enable_thinking",)),
    "own variable": ({"messages_": 1}, PromptError, ("messages_",)),
    "template": ({"template": "tool_use"}, PromptError, ("tool_use", "default")),
    "template of another kind": ({"template": 1}, ArgumentError, ("template",)),
    "callable": ({"tools": [f]}, PromptError, ("callable", "JSON schema")),
    "text for a tool": ({"tools": ["f"]}, PromptError, ("str",)),
    "text for tools": ({"tools": "f"}, PromptError, ("tools",)),
    "prefill of another kind": ({"continue_final_message": 1}, ArgumentError, ("continue_final_message",)),
    "surrogate": ({"x": "\ud800"}, TokenizerError, ("surrogate",)),
}


@pytest.mark.parametrize("name", list(CHATS))
def test_chats(small: Pair, name: str) -> None:
    more, kind, fragments = CHATS[name]
    refused(lambda: small.ours.generate(Chat([USER], **more), max_tokens=1), kind, *fragments)
    refused(lambda: small.ours.apply_chat_template([USER], **more), kind, *fragments)


def test_empty_tools_lose_nothing(small: Pair) -> None:
    assert small.ours.apply_chat_template([USER], tools=[]) == small.ours.apply_chat_template([USER])
    extra = USER | {"tool_calls": [], "name": None}
    assert small.ours.apply_chat_template([extra]) == small.ours.apply_chat_template([USER])


def test_the_place_in_a_list_is_told(small: Pair) -> None:
    refused(lambda: small.ours.generate([[USER], [USER | {"mood": "x"}]]), PromptError, "number 1", "mood")


def test_prefill(small: Pair) -> None:
    calls = [{"role": "assistant", "tool_calls": CALLS}]
    refused(lambda: small.ours.apply_chat_template(calls, continue_final_message=True), PromptError, "content")
    refused(
        lambda: small.ours.apply_chat_template([USER], continue_final_message=True, add_generation_prompt=True),
        ArgumentError,
        "add_generation_prompt",
    )
    refused(lambda: small.ours.apply_chat_template(Chat([USER]), tools=[]), ArgumentError, "Chat")
    refused(lambda: Chat([]), PromptError, "empty")
    refused(lambda: Chat("a"), PromptError, "messages")  # type: ignore[arg-type]
