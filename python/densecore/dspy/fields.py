"""The grammar of an answer in DSPy's chat format: every output field behind its marker, each of its type.

Free text runs to the next marker at the start of a line. The lexer of llguidance never goes back, so two lexemes share
the text between them: ``ended`` is the text together with the beginning of the marker, ``cut`` the text alone. Tokens
of both are counted; when they are used up, llguidance takes the lexeme that was written down first, which is ``cut``.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import dspy
from dspy.adapters.utils import parse_value

from densecore.dspy.calls import arguments
from densecore.dspy.calls import calls as tool_calls
from densecore.errors import ArgumentError
from densecore.forms.annotation import of_type
from densecore.forms.form import Lark
from densecore.forms.formats import PLAIN_FORMATS
from densecore.forms.lengths import texts
from densecore.forms.schema import Rules, quoted, regex

# Tokens kept for what follows a free text, so that a long thought leaves room for its conclusion: what a value takes that is
# to the point.
ROOM_TEXT = 64
ROOM_JSON = 10  # besides its strings
ROOM_STRING = 10  # with its key
ROOM_CHOICE = 12
ROOM_CODE = 128
ROOM_MARKER = 16
LEAST_TEXT = 16  # tokens of a free text before others, however little there is

LINE_ENDS = ("\x85", "\u2028", "\u2029")  # that JSON allows in strings as they are
_SEPARATOR = r'"\n\n[[ ## "'
# Control characters, and what ends a line in Python besides a line feed: DSPy reads line by line.
ODD = rf"\x00-\x08\x0b-\x1f\x7f{''.join(LINE_ENDS)}"
# Text that comes back as it was written: it begins with what is no space and nowhere holds "[[ #" or "[[#", as markers do and
# what small models take for them. Said
# without complements and intersections, which would cost the engine more than the text itself.
_BRACKETS = rf"\[[^\[{ODD}]|\[\[+[^\[ #{ODD}]"
_BRACKETS = rf"{_BRACKETS}|(?:\[\[+ )+(?:[^\[#{ODD}]|{_BRACKETS})"
_TEXT = rf"(?:[^\s\[{ODD}]|{_BRACKETS})(?:[^\[{ODD}]|{_BRACKETS})*\[*"
_CODE = (
    rf"(?:`{{0,2}}(?:[^`\[{ODD}]|\[[^`\[{ODD}]))*`{{0,2}}[^`\[\s{ODD}](?:`{{0,2}}(?:[^`\[{ODD}]|\[[^`\[{ODD}]))*\n```"
)


@dataclass(frozen=True)
class Value:
    """How one field is written."""

    rule: str
    """What a grammar says of it."""
    room: int
    """Tokens it may want."""
    open: bool = False
    """Whether it may go on where it could end, as free text and numbers do."""
    optional: bool = False
    """Whether the field may be left out."""
    terminal: bool = False
    """Whether the rule is one lexeme."""
    text: bool = False
    """Whether it is free text, which ends where a marker begins."""
    closers: tuple[str, ...] = ()
    """Texts that lead to its end."""
    strings: int = 0
    """JSON strings that it may hold."""


def text_rule() -> str:
    """The terminal of free text."""
    return f"/{_TEXT}/"


def grammar(
    signature: type[dspy.Signature],
    tools: Mapping[str, dspy.Tool],
    max_tokens: int,
    calls: Mapping[str, int] | None = None,
) -> tuple[Lark, dict[str, int]]:
    """The form of the signature's answer, and the tokens that some of its free texts may have.

    Args:
        signature: What is asked for.
        tools: Those a field may name, by name.
        max_tokens: Of the answer; free texts that others follow share what the others do not need.
        calls: ``minItems`` and ``maxItems`` of tool calls.
    """
    shared = Rules()
    values = _values(signature, tools, shared, calls or {})
    cap = _cap(list(values.values()), max_tokens)
    capped: dict[str, int] = {}
    rules = []
    for i, (name, value) in enumerate(values.items()):
        following, may_end = _from(values, i + 1)
        rule = f"({value.rule})"
        if value.terminal:
            rules.append(f"V{i}: {value.rule}")
            rule = f"V{i}"
        end = f"{_SEPARATOR} ({following})"
        end = f"({end})?" if may_end else end
        if value.text:
            limit = "" if may_end else f"[max_tokens={cap}]"
            capped |= {} if may_end else {name: cap}
            rules += [
                f"cut{i}{limit}: V{i}",
                f"ended{i}{limit}: ENDED{i}",
                f'ENDED{i}: V{i} "\\n[[ ##"',
            ]
            rule, end = f'(cut{i} {end} | ended{i} " " ({following}))', ""
        elif i + 1 == len(values) and not value.open:
            end = ""  # nothing can follow what is closed
        rules.append(f"r{i}: {quoted(f'{name} ## ]]')} /\\n/ {rule} {end}")
    first, _ = _from(values, 0)
    lark = "\n".join([f'start: "[[ ## " ({first})', 'done: "completed ## ]]"', *rules]) + f"\n{shared}"
    later = sorted(list(values)[1:], key=lambda name: values[name].optional)  # what may be left out is not gone to
    # A text of bounded length ends with a letter, so that there is one line feed behind it.
    exits = [f"{feeds}[[ ## {name} ## ]]\n" for name in later for feeds in ("\n\n", "\n")]
    closers = [closer for value in values.values() for closer in value.closers]
    stretch = max(1, cap - ROOM_MARKER // 2) if capped else None  # a marker's beginning counts as the text's
    strings = sum(value.strings for value in values.values())
    return Lark(lark, closers, exits=exits, stretch=stretch, strings=strings), capped


def _from(values: Mapping[str, Value], start: int) -> tuple[str, bool]:
    """The rules that may come at a place, and whether the answer may end there."""
    found = []
    for i, value in enumerate(values.values()):
        if i >= start:
            found.append(f"r{i}")
            if not value.optional:
                return " | ".join(found), False
    return " | ".join([*found, "done"]), True


def _cap(values: Sequence[Value], max_tokens: int) -> int:
    """Tokens of each free text that a required field follows."""
    last = max((i for i, value in enumerate(values) if not value.optional), default=0)
    leading = [i for i, value in enumerate(values) if value.text and i < last]
    kept = sum(ROOM_MARKER + (0 if i in leading else value.room) for i, value in enumerate(values))
    return max(LEAST_TEXT, (max_tokens - min(kept, max_tokens // 2)) // max(1, len(leading)))


def _values(
    signature: type[dspy.Signature], tools: Mapping[str, dspy.Tool], rules: Rules, calls: Mapping[str, int]
) -> dict[str, Value]:
    fields, found = signature.output_fields, {}
    for name, field in fields.items():
        if name == "next_tool_args" and "next_tool_name" in found:
            continue
        try:
            if name == "next_tool_name" and "next_tool_args" in fields and tools:
                found[name] = _tool_call(tools, rules)
            elif field.annotation is dspy.ToolCalls and tools:
                found[name] = _json(tool_calls(tools, calls), rules)
            else:
                found[name] = _value(field, rules)
        except ArgumentError as error:
            raise ArgumentError(f"field {name}: {error}") from None
    return found


def _value(field: Any, rules: Rules) -> Value:
    kind, origin = field.annotation, get_origin(field.annotation)
    args = get_args(kind)
    optional = not field.is_required()
    if kind is str or kind is dspy.Reasoning:
        rule, room = _constrained(field)
        return Value(rule, room, terminal=True, text=True, open=True, optional=optional)
    if origin in (Union, types.UnionType) and str in args and type(None) in args:
        # DSPy takes any such text for a str, "null" too: None is a field that is not there.
        return Value(text_rule(), ROOM_TEXT, terminal=True, text=True, open=True, optional=True)
    if inspect.isclass(kind) and issubclass(kind, dspy.Code):
        language: Any = kind
        fence = quoted(f"```{language.language.lower()}\n")
        return Value(f"{fence} /{_CODE}/", ROOM_CODE, terminal=True, closers=("\n```",))
    if origin is Literal or kind is bool or (inspect.isclass(kind) and issubclass(kind, enum.Enum)):
        members = args if origin is Literal else (True, False) if kind is bool else list(kind)
        return Value(" | ".join(quoted(_spelling(member, kind)) for member in members), ROOM_CHOICE)
    found = _whole(of_type(field.rebuild_annotation()))
    pattern = PLAIN_FORMATS.get(found.get("format", ""))
    if pattern:
        return Value(regex(pattern), ROOM_CHOICE, open=True)
    return _json(found, rules)


def _whole(schema: Any) -> Any:
    """A schema whose objects have all their properties, as DSPy's own structured answers have."""
    if isinstance(schema, list):
        return [_whole(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: part if key in ("const", "enum", "default") else _whole(part) for key, part in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made["required"] = list(made["properties"])
    return made


def _json(schema: Mapping[str, Any], rules: Rules) -> Value:
    is_number, strings = schema.get("type") in ("integer", "number"), texts(schema)
    room = ROOM_CHOICE if is_number else ROOM_JSON + ROOM_STRING * strings
    return Value(rules.schema(schema), room, open=is_number, strings=strings)


def _tool_call(tools: Mapping[str, dspy.Tool], rules: Rules) -> Value:
    """A tool's name and arguments that fit this tool."""
    pairs, values = [], []
    for name, tool in tools.items():
        head = quoted(f"{_spelling(name, Literal[name])}\n\n[[ ## next_tool_args ## ]]\n")
        values.append(_json(arguments(tool), rules))
        pairs.append(f"{head} {values[-1].rule}")
    room, strings = max(value.room for value in values), max(value.strings for value in values)
    return Value(" | ".join(pairs), ROOM_MARKER + room, strings=strings)


def _spelling(value: Any, kind: Any) -> str:
    """How DSPy reads this very value: as it stands, as JSON, or an enumeration's member by its name."""
    plain = value.value if isinstance(value, enum.Enum) else value
    spellings = [str(plain), json.dumps(plain, default=str), f'"{plain}"', str(getattr(value, "name", plain))]
    for text in spellings:
        if text != "\n".join(text.splitlines()).strip() or not text or "[[ ##" in text:
            continue
        try:
            read = parse_value(text, kind)
        except ValueError:
            continue
        if read == value and type(read) is type(value):
            return text
    raise ArgumentError(f"the choice {value!r:.80} cannot be written so that DSPy reads it back; rename it")


def _constrained(field: Any) -> tuple[str, int]:
    """A free text's terminal, with what pydantic would ask of it, and its room: figures take a token a character."""
    asked = of_type(field.rebuild_annotation()) if field.annotation is str else {}
    parts = [text_rule()]
    least, most = asked.get("minLength", 0), asked.get("maxLength")
    if least or most is not None:
        parts.append(f"/(?s:.{{{max(1, least) - 1},{'' if most is None else most - 1}}})\\S/")
    if (pattern := asked.get("pattern")) is not None:
        parts.append(f"/{_searched(pattern)}/")
    return " & ".join(parts), ROOM_TEXT if most is None else most


def _searched(pattern: str) -> str:
    """A regular expression of whole texts in which this one is found."""
    start, end = pattern.startswith("^"), bool(re.search(r"(?<!\\)(\\\\)*\$$", pattern))
    inner = pattern[start : len(pattern) - end]
    # An anchor of one alternative is not an anchor of all.
    if (start or end) and "|" in re.sub(r"\\.|\[[^\]]*\]|\(.*\)", "", inner):
        raise ArgumentError(f"pattern = {pattern!r:.80}: put the alternatives between its anchors into parentheses")
    inner = re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\\/", inner).replace("\n", r"\n")
    return f"{'' if start else '(?s:.*)'}(?:{inner}){'' if end else '(?s:.*)'}"
