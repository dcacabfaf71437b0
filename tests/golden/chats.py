"""Chats that a template may be given, and what transformers makes of them: the measure of the golden tests of templates."""

from __future__ import annotations

import re
from typing import Any

from densecore.errors import PromptError, TemplateError

CITY = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Says "how it is" in Zürich & <elsewhere>; 日本 too.',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where.\nIn full."},
                "days": {"type": "integer", "minimum": 1, "default": None},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TRIP = {
    "type": "function",
    "function": {
        "name": "trip",
        "description": "Plans a trip",
        "parameters": {
            "type": "object",
            "properties": {
                "stops": {
                    "type": "array",
                    "description": "Cities",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "nights": {"type": "number"}},
                    },
                },
                "budget": {"type": ["number", "null"], "nullable": True},
                "fast": {"type": "boolean", "default": True},
            },
            "required": ["stops", "fast"],
        },
        "return": {"type": "object", "properties": {"cost": {"type": "number"}}},
    },
}
BARE = {
    "type": "function",
    "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}},
}
ASK, KIND = {"role": "user", "content": "Rain?"}, {"role": "system", "content": "Be brief."}
YES = {"role": "assistant", "content": "Yes."}
ARGUMENTS = {"city": "Zürich", "days": 2, "unit": None, "list": [1, 2.5, "é\n"], "deep": {"yes": True}}


def call(number: int, arguments: Any = None, name: str = "weather") -> dict[str, Any]:
    """A call with an id of nine letters, which some templates insist on."""
    function = {"name": name, "arguments": ARGUMENTS if arguments is None else arguments}
    return {"id": f"call{number:05}", "type": "function", "function": function}


def calls(*made: dict[str, Any], content: Any = "") -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


def answer(number: int, content: str = '{"rain": true}', name: str = "weather") -> dict[str, Any]:
    return {"role": "tool", "name": name, "tool_call_id": f"call{number:05}", "content": content}


def think(thought: str, said: str = "Yes.") -> dict[str, Any]:
    return {"role": "assistant", "content": said, "reasoning_content": thought}


TOOLS = {"tools": [CITY, TRIP]}
Talk = tuple[list[dict[str, Any]], dict[str, Any]]
CHATS: dict[str, Talk] = {
    "user": ([ASK], {}),
    "system": ([KIND, ASK], {}),
    "turns": ([ASK, YES, ASK, YES, ASK], {}),
    "system and turns": ([KIND, ASK, YES, ASK], {}),
    "answered": ([ASK, YES], {}),
    "answered twice": ([KIND, ASK, YES, ASK, YES], {}),
    "system alone": ([KIND], {}),
    "system in the middle": ([ASK, KIND, ASK], {}),
    "assistant first": ([YES, ASK], {}),
    "user twice": ([ASK, ASK], {}),
    "assistant twice": ([ASK, YES, YES], {}),
    "another role": ([ASK, {"role": "narrator", "content": "Later."}], {}),
    "developer": ([{"role": "developer", "content": "Be brief."}, ASK], {}),
    "empty contents": (
        [{"role": "system", "content": ""}, {"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
        {},
    ),
    "spaces": (
        [
            {"role": "system", "content": "\n Be kind. \t"},
            {"role": "user", "content": "  spaces \u3000around\u2028\x1c"},
            {"role": "assistant", "content": "\n\nyes\n\n"},
            {"role": "user", "content": "\n"},
        ],
        {},
    ),
    "unicode": (
        [
            {
                "role": "user",
                "content": "Zürich 日本 👩‍👩‍👧 e\u0301 \u00a0\u200b\u202e{{ x }} {% raw %} "
                "'q' \"d\" \\ <b>&amp;</b> </think> [INST]",
            }
        ],
        {},
    ),
    "long": ([{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(41)], {}),
    "tools": ([KIND, ASK], TOOLS),
    "tools without a system": ([ASK], TOOLS),
    "one bare tool": ([ASK], {"tools": [BARE]}),
    "no tools": ([KIND, ASK], {"tools": []}),
    "tools later": ([ASK, YES, ASK], TOOLS),
    "call": ([ASK, calls(call(1))], TOOLS),
    "call answered": ([KIND, ASK, calls(call(1)), answer(1)], TOOLS),
    "call without tools": ([ASK, calls(call(1)), answer(1)], {}),
    "call and text": ([ASK, calls(call(1), content="Let me see."), answer(1), YES, ASK], TOOLS),
    "call without content": ([ASK, calls(call(1), content=None), answer(1)], TOOLS),
    "two calls": (
        [ASK, calls(call(1), call(2, {}, "now")), answer(1), answer(2, "noon", "now"), YES],
        {"tools": [CITY, BARE]},
    ),
    "arguments as text": ([ASK, calls(call(1, '{"city": "Bern"}')), answer(1)], TOOLS),
    "a call after a call": ([ASK, calls(call(1)), answer(1), calls(call(2)), answer(2, "plain text")], TOOLS),
    "reasoning": ([ASK, think("I look.\n"), ASK], {}),
    "reasoning last": ([ASK, think("\nI look.")], {}),
    "reasoning and a call": ([ASK, think("I ask.", "") | {"tool_calls": [call(1)]}, answer(1), think("So.")], TOOLS),
    "thought in the content": ([ASK, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}, ASK], {}),
    "thinking": ([KIND, ASK], {"enable_thinking": True}),
    "no thinking": ([KIND, ASK], {"enable_thinking": False}),
    "no thinking with tools": ([ASK], {"enable_thinking": False, **TOOLS}),
    "no_think": ([{"role": "system", "content": "Be brief. /no_think"}, ASK], {}),
    "date": ([ASK], {"date_string": "01 Jan 2030"}),
    "date with tools": ([KIND, ASK], {"date_string": "01 Jan 2030", **TOOLS}),
    "custom tools": ([ASK], {"custom_tools": [CITY], "date_string": "01 Jan 2030"}),
    "tools beside the system": ([KIND, ASK], {"tools_in_user_message": False, "date_string": "01 Jan 2030", **TOOLS}),
    "builtin tools": ([ASK], {"builtin_tools": ["code_interpreter", "brave_search"], "date_string": "01 Jan 2030"}),
    "builtin call": (
        [ASK, calls(call(1, {"query": "rain"}, "brave_search")), {"role": "ipython", "content": "{}"}],
        {"builtin_tools": ["brave_search"], "date_string": "01 Jan 2030"},
    ),
    "documents": (
        [ASK],
        {"documents": [{"title": "One", "text": "It rains."}, {"title": "Two", "text": "It does not."}]},
    ),
    "name": ([ASK | {"name": "Ann"}], {}),
}
PREFILL: dict[str, Talk] = {
    "prefill": ([ASK, {"role": "assistant", "content": "It will"}], {}),
    "prefill with a space": ([KIND, ASK, {"role": "assistant", "content": "It will "}], {}),
    "prefill after a call": ([ASK, calls(call(1)), answer(1), {"role": "assistant", "content": "So"}], TOOLS),
}
WORDS = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}


def theirs(template: str, talk: Talk, add: bool, goes_on: bool = False) -> str | None:
    """transformers' text; None where it raises."""
    from transformers.utils.chat_template_utils import render_jinja_template

    messages, more = talk
    # As `apply_chat_template` does before it.
    messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        texts, _ = render_jinja_template(
            [messages],
            chat_template=template,
            add_generation_prompt=add,
            continue_final_message=goes_on,
            **WORDS,
            **more,
        )
    except Exception:  # whatever jinja, the template and Python raise
        return None
    return texts[0]


def without(talk: Talk, error: PromptError) -> Talk | None:
    """The chat without what the error says that the template does not read; None if the error is about something else."""
    messages, more = talk
    text = str(error)
    if found := re.search(r'message \d+ \((\w*)\) has the key "(\w+)"', text):
        role, key = found.groups()
        return [{k: v for k, v in m.items() if m["role"] != role or k != key} for m in messages], more
    if found := re.search(r'does not read "(\w+)"', text):
        return messages, {name: value for name, value in more.items() if name != found[1]}
    return None


def ours(model: Any, talk: Talk, add: bool, goes_on: bool) -> str | PromptError | TemplateError:
    """Our text, or what is raised."""
    messages, more = talk
    try:
        return model.apply_chat_template(messages, add_generation_prompt=add, continue_final_message=goes_on, **more)
    except (PromptError, TemplateError) as error:
        return error


def same(model: Any, template: str, talk: Talk, add: bool, goes_on: bool = False) -> bool:
    """Whether nothing had to be left out. Fails if the texts differ, or if what is refused makes a difference to transformers."""
    expected = theirs(template, talk, add, goes_on)
    given = talk
    while isinstance(found := ours(model, given, add, goes_on), PromptError) and (less := without(given, found)):
        assert less != given, found
        assert theirs(template, less, add, goes_on) == expected, f"refused, though it is read: {found}"
        if any(message.get("content") is None and "tool_calls" not in message for message in less[0]):
            return False  # what is left is no chat to us
        given = less
    if isinstance(found, str):
        assert found == expected
    else:
        assert expected is None, found
    return given == talk
