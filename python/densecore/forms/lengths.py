"""How many texts a structured value may hold, so that each may have its share of an answer's tokens.

>>> texts({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}})
1
>>> texts({"type": "array", "maxItems": 4, "items": {"type": "string"}})
4
>>> texts({"type": "object", "properties": {}, "additionalProperties": False})
0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ITEMS = 8  # of an array or an object of any length that are counted on; the room of further ones is what is left then
_SETTLED = {"format", "pattern", "enum", "const"}


def texts(schema: Mapping[str, Any]) -> int:
    """Texts and free keys that a value of the schema may hold."""
    return _texts(schema, schema.get("$defs", {}), ())


def _texts(schema: Any, known: Mapping[str, Any], within: tuple[str, ...]) -> int:
    if not isinstance(schema, Mapping):
        return int(schema is True)
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        return 1 if name in within else _texts(known.get(name), known, (*within, name))
    found = int(schema.get("type") == "string" and not _SETTLED & schema.keys())
    for kind in ("anyOf", "oneOf", "allOf"):
        found += max((_texts(each, known, within) for each in schema.get(kind, ())), default=0)
    found += sum(_texts(each, known, within) for each in schema.get("properties", {}).values())
    found += sum(_texts(each, known, within) for each in schema.get("prefixItems", ()))
    found += min(ITEMS, int(schema.get("maxItems", ITEMS))) * _texts(schema.get("items"), known, within)
    free = schema.get("additionalProperties", True)
    if schema.get("type") == "object" and not schema.get("properties") and free is not False:
        values = _texts(free, known, within)
        keys = int(not _SETTLED & schema.get("propertyNames", {}).keys())
        found += min(ITEMS, int(schema.get("maxProperties", ITEMS))) * (keys + values)
    return found
