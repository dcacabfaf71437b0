"""Tools as schemas: what a call of one may look like, and which calls are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from densecore.errors import ArgumentError

Tools = Mapping[str, dspy.Tool]


def chosen(tools: Tools, choice: Any) -> tuple[Tools, dict[str, int]]:
    """The tools that may be called under a ``tool_choice`` as DSPy gives it, and the bounds of their number.

    >>> chosen({}, "required")
    ({}, {'minItems': 1})
    """
    counts: dict[Any, dict[str, int]] = {None: {}, "auto": {}, "required": {"minItems": 1}, "none": {"maxItems": 0}}
    if isinstance(choice, Mapping):
        name = str((choice.get("function") or choice).get("name"))
        if name in tools:
            return {name: tools[name]}, {"minItems": 1, "maxItems": 1}
    elif choice in counts:
        return tools, counts[choice]
    raise ArgumentError(
        f'tool_choice = {choice!r:.80}: give "auto", "required", "none", or the function of one of these tools: '
        f"{', '.join(tools) or 'there are none'}"
    )


def calls(tools: Tools, bounds: Mapping[str, int]) -> dict[str, Any]:
    """The schema of a list of calls, each with arguments that fit its tool."""
    kinds = [
        {
            "type": "object",
            "required": ["name", "args"],
            "properties": {"name": {"const": name}, "args": arguments(tool)},
        }
        for name, tool in tools.items()
    ]
    several = {"type": "array", "items": {"anyOf": kinds}, **bounds}
    return _rooted({"type": "object", "properties": {"tool_calls": several}, "required": ["tool_calls"]})


def arguments(tool: dspy.Tool) -> dict[str, Any]:
    """The schema of a tool's arguments; those without a default must be given."""
    given = tool.args or {}
    required = [name for name, schema in given.items() if "default" not in schema]
    return _rooted({"type": "object", "properties": given, "required": required, "additionalProperties": False})


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with all its definitions at its root, where references look for them; each argument brings its own.

    >>> _rooted({"items": {"$defs": {"A": {"type": "null"}}, "$ref": "#/$defs/A"}})
    {'items': {'$ref': '#/$defs/d0.A'}, '$defs': {'d0.A': {'type': 'null'}}}
    """
    definitions: dict[str, Any] = {}

    def moved(part: Any, names: Mapping[str, str]) -> Any:
        if isinstance(part, list):
            return [moved(each, names) for each in part]
        if not isinstance(part, dict):
            return part
        if own := part.get("$defs"):
            place = len(definitions)
            names = {**names, **{f"#/$defs/{name}": f"d{place}.{name}" for name in own}}
            definitions.update({f"d{place}.{name}": None for name in own})
            definitions.update({f"d{place}.{name}": moved(each, names) for name, each in own.items()})
        made = {
            key: moved(each, names)
            for key, each in part.items()
            if key not in ("$defs", "$ref", "const", "enum", "default")
        }
        made |= {key: part[key] for key in ("const", "enum", "default") if key in part}
        if "$ref" in part:
            made["$ref"] = f"#/$defs/{names[part['$ref']]}" if part["$ref"] in names else part["$ref"]
        return made

    made: dict[str, Any] = moved(schema, {})
    return {**made, "$defs": definitions} if definitions else made
