r"""JSON schemas that allow what pydantic and DSPy read, and nothing else, for :class:`densecore.Json`.

A schema's author thinks of judging what is there; here every text that the schema allows may be written. So dates become
those of the calendar, strings that must be there are not blank, objects have the properties they name and no others, numbers
are none that overflow, and a keyword that would constrain a value but cannot be held is an error rather than ignored. Texts,
lists and nesting have no bounds but those of the schema: an answer's tokens bound them, and then its finish reason says so.

>>> exact({"type": "object", "properties": {"name": {"type": "string"}}})
{'type': 'object', 'properties': {'name': {'type': 'string', 'pattern': '^\\S'}}, 'additionalProperties': False}
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from densecore.errors import ArgumentError
from densecore.forms.formats import ANY_STRING, FORMATS
from densecore.forms.schema import DECIMALS, DIGITS, KEYWORDS, REFUSED, are_apart, refused

Schema = dict[str, Any]
_PARTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_FURTHER = ("items", "additionalProperties")
# What says nothing about values, or is said otherwise.
_LEFT_OUT = ("discriminator", "propertyNames", "format", "uniqueItems", "x-stripped")


def exact(schema: Mapping[str, Any] | bool) -> Schema:
    """The schema as the engine's JSON is to hold it; refuses what cannot be held."""
    definitions = {} if isinstance(schema, bool) else schema.get("$defs", schema.get("definitions", {}))
    made = _node(schema, definitions)
    return made if isinstance(made, dict) else {}


def _node(schema: Any, known: Mapping[str, Any]) -> Any:
    if schema is True or schema == {}:
        return {}
    if not isinstance(schema, Mapping):
        raise ArgumentError(f"schema {schema!r:.80} allows nothing; leave it out")
    if found := [word for word in REFUSED if word in schema]:
        raise refused(schema, f"{found[0]} cannot be held; say it in other words")
    made: Schema = {
        key: _part(key, value, known)
        for key, value in schema.items()
        if key not in _LEFT_OUT and not key.startswith("x-")
    }
    if "oneOf" in made:
        if "discriminator" not in schema and not are_apart(schema["oneOf"], known):
            raise refused(schema, "two options of oneOf may allow the same value; use anyOf")
        made["anyOf"] = made.pop("oneOf")
    if "const" in made or "enum" in made or "$ref" in made:
        return made
    kind = schema.get("type")
    if isinstance(kind, list):
        rest = {key: value for key, value in schema.items() if key not in ("type", "$defs", "definitions")}
        above = {key: made[key] for key in ("$defs", "definitions") if key in made}
        return {**above, "anyOf": [_node({**_for(one, rest), "type": one}, known) for one in kind]}
    kind = kind or next((k for k, words in KEYWORDS.items() if any(word in schema for word in words)), None)
    if kind == "string":
        return {**made, **_string(schema)}
    if kind in ("integer", "number"):
        open_ends = ("exclusiveMinimum", "exclusiveMaximum")
        return {key: value for key, value in made.items() if key not in open_ends} | _number(schema)
    if kind == "array" and schema.get("uniqueItems") and schema.get("minItems", 0) > 1:
        raise refused(schema, "minItems with uniqueItems cannot be held; ask for a list")
    return {**made, **_object(schema, made, known)} if kind == "object" else made


def _for(kind: Any, schema: Mapping[str, Any]) -> Schema:
    """What of a schema of several types is said of one of them."""
    others = {word for k, words in KEYWORDS.items() if k != ("number" if kind == "integer" else kind) for word in words}
    return {key: value for key, value in schema.items() if key not in others}


def _part(key: str, value: Any, known: Mapping[str, Any]) -> Any:
    if key in _PARTS and isinstance(value, list):
        return [_node(one, known) for one in value]
    if key in _NAMED and isinstance(value, Mapping):
        return {name: _node(one, known) for name, one in value.items()}
    return _node(value, known) if key in _FURTHER and value is not False else value


def _string(schema: Mapping[str, Any]) -> Schema:
    name, pattern, least = schema.get("format"), schema.get("pattern"), schema.get("minLength", 1)
    if name is not None and name not in FORMATS and name not in ANY_STRING:
        raise refused(schema, f"format = {name!r:.80} is not known; there are {', '.join(FORMATS)}")
    if name in FORMATS:
        if pattern is not None:
            raise refused(schema, "a pattern beside a format cannot be held; leave one out")
        return {"type": "string", "pattern": f"^(?:{FORMATS[name]})$"}
    made: Schema = {"type": "string"}
    if pattern is not None:
        return {**made, "minLength": least}
    if least:
        made["pattern"] = r"^\S"  # blank is no text
    return made


def _number(schema: Mapping[str, Any]) -> Schema:
    """Closed bounds, and some where there are none: of digits without end a reader makes infinity, or nothing."""
    is_whole = schema.get("type") == "integer"
    step = Fraction(1) if is_whole else Fraction(1, 10**DECIMALS)
    least = [Fraction(repr(schema["minimum"]))] if schema.get("minimum") is not None else []
    most = [Fraction(repr(schema["maximum"]))] if schema.get("maximum") is not None else []
    if (bound := schema.get("exclusiveMinimum")) is not None:
        least.append((Fraction(repr(bound)) // step + 1) * step)
    if (bound := schema.get("exclusiveMaximum")) is not None:
        most.append(-(-Fraction(repr(bound)) // step + 1) * step)
    low = max(least) if least else -max([Fraction(10**DIGITS - 1), *(-10 * bound for bound in most)])
    high = min(most) if most else max([Fraction(10**DIGITS - 1), *(10 * bound for bound in least)])
    if low > high:
        raise refused(schema, f"there is no such number with {0 if is_whole else DECIMALS} places")
    return {"minimum": _plain(low), "maximum": _plain(high)}


def _plain(bound: Fraction) -> int | float:
    return int(bound) if bound.denominator == 1 else float(bound)


def _object(schema: Mapping[str, Any], made: Schema, known: Mapping[str, Any]) -> Schema:
    if schema.get("minProperties", 0) > 1:
        raise refused(schema, "keys may come twice, so minProperties cannot be held; name them")
    if schema.get("properties"):
        return {"additionalProperties": False}
    if not schema.get("propertyNames"):
        return {}
    values = made.pop("additionalProperties", {})
    return {"patternProperties": {_keys(schema["propertyNames"], known): values}, "additionalProperties": False}


def _keys(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Keys that a schema describes, as a regular expression."""
    if "$ref" in schema:
        schema = known.get(schema["$ref"].rpartition("/")[2], {})
    if "const" in schema or "enum" in schema:
        names = [schema["const"]] if "const" in schema else schema["enum"]
        return f"^(?:{'|'.join(_escaped(str(name)) for name in names)})$"
    kind = schema.get("type", "string")
    if kind == "integer" and not any(word in schema for word in KEYWORDS["number"]):
        return f"^-?(?:0|[1-9][0-9]{{0,{DIGITS - 1}}})$"
    if kind == "string" and not {"minLength", "maxLength"} & schema.keys():
        return str(_string(schema).get("pattern", schema.get("pattern", r"^\S")))
    raise refused(schema, "keys of this kind cannot be held; use strings or a Literal")


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in r"\.+*?()|[]{}^$/-" else char for char in text)
