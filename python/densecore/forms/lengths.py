"""How long the texts inside a structured value may be, so that all of it has room in an answer's tokens.

>>> bounded({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}, 100)["properties"]["name"]
{'type': 'string', 'maxLength': 150}
>>> bounded({"type": "array", "maxItems": 4, "items": {"type": "string"}}, 100)["items"]["maxLength"]
40
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densecore.forms.schema import LONGEST_STRING

CHARACTERS = 1.5  # a token has, in texts that go wrong; in good ones four
SHORTEST = 40  # characters that a text may always have
ITEMS = 8  # that are made room for in an array or an object of any length; more of them are shorter, or are cut
_BOUND = {"maxLength", "pattern", "enum", "const"}
# Keywords whose values are no schemas, and keys, which are short.
_LEFT = ("const", "enum", "default", "examples", "propertyNames")


def bounded(schema: Mapping[str, Any], room: int) -> dict[str, Any]:
    """The schema, its texts of no bound with one: an equal share of so many tokens."""
    texts = max(1, _texts(schema, schema.get("$defs", {}), ()))
    made: dict[str, Any] = _set(schema, max(SHORTEST, min(LONGEST_STRING, int(CHARACTERS * room / texts))))
    return made


def _is_open(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string" and "format" not in schema and not _BOUND & schema.keys()


def _texts(schema: Any, known: Mapping[str, Any], within: tuple[str, ...]) -> int:
    """Texts of no bound that a value of the schema may hold."""
    if not isinstance(schema, Mapping):
        return 0
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        return 1 if name in within else _texts(known.get(name), known, (*within, name))
    found = int(_is_open(schema))
    for kind in ("anyOf", "oneOf", "allOf"):
        found += max((_texts(each, known, within) for each in schema.get(kind, ())), default=0)
    found += sum(_texts(each, known, within) for each in schema.get("properties", {}).values())
    found += sum(_texts(each, known, within) for each in schema.get("prefixItems", ()))
    for kind, most in (("items", "maxItems"), ("additionalProperties", "maxProperties")):
        found += min(ITEMS, int(schema.get(most, ITEMS))) * _texts(schema.get(kind), known, within)
    return found


def _set(schema: Any, most: int) -> Any:
    if isinstance(schema, list):
        return [_set(part, most) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: part if key in _LEFT else _set(part, most) for key, part in schema.items()}
    return {**made, "maxLength": max(most, 2 * schema.get("minLength", 0))} if _is_open(schema) else made
