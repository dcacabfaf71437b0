"""JSON schemas as the engine can hold an answer to them: bounded, exact about dates, and nothing let through unread.

A schema's author thinks of judging what is there; here every text that the schema allows may be written. So lengths get
caps where the author gave none, dates are those of the calendar, strings that must be there are not blank, and a keyword
that would constrain a text but cannot be held is an error rather than ignored.

>>> tighten({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]})["properties"]
{'n': {'type': 'integer', 'minimum': 0, 'maximum': 1000000000000}}
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema

from densecore.errors import ArgumentError

Schema = dict[str, Any]

LONGEST_STRING = 500  # characters: some five sentences
LONGEST_KEY = 40  # characters of a key that the schema does not name
MOST_ITEMS = 20  # of an array or of an object with free keys; a small model that does not stop ends here
LARGEST = 10**12  # of a number without bounds
DECIMALS = 6  # places behind the point

# Control characters, and what ends a line in Python besides a line feed: what reads line by line would cut there.
ODD = r"\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029"
_KEY = rf"^\S[^\t\n{ODD}]{{0,{LONGEST_KEY - 1}}}$"

# Python's calendar: years 1 to 9999, the 29th of February in leap years.
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_HEX = "[0-9a-f]"
_WORD = "[a-z0-9]{1,20}"

# Written as they stand where a whole field is one, without quotes, as DSPy shows them.
PLAIN_FORMATS = {"date": DATE, "date-time": f"{DATE}T{TIME}Z?", "time": TIME}
FORMATS = {
    **PLAIN_FORMATS,
    "duration": "P[0-9]{1,3}DT[0-9]{1,2}H[0-9]{1,2}M[0-9]{1,2}S",
    "uuid": f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",
    **{f"uuid{n}": f"{_HEX}{{8}}-{_HEX}{{4}}-{n}{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}" for n in (1, 3, 4, 5, 7)},
    "email": rf"{_WORD}(?:[._]{_WORD})?@{_WORD}\.(?:com|org|net)",
    "uri": rf"https?://{_WORD}(?:\.{_WORD})?\.(?:com|org|net)(?:/[A-Za-z0-9_.-]{{1,40}}){{0,4}}",
    "ipv4": r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
}
_ANY_STRING = ("path", "binary", "password")  # formats that say what a string is for, not what it looks like

# Keywords that judge a value and have no counterpart here. All that are unknown say nothing about values.
_REFUSED = (
    "not", "if", "then", "else", "contains", "dependencies", "dependentRequired", "dependentSchemas",
    "unevaluatedItems", "unevaluatedProperties", "additionalItems", "contentMediaType", "contentEncoding",
    "contentSchema", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
_KEYWORDS = {
    "string": ("pattern", "format", "minLength", "maxLength"),
    "object": ("properties", "patternProperties", "additionalProperties", "propertyNames", "minProperties",
               "maxProperties", "required"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}  # fmt: skip


def of_type(annotation: Any) -> Schema:
    """The schema of a Python type as pydantic reads it, with the constraints that pydantic's own schemas leave out."""
    try:
        return pydantic.TypeAdapter(annotation).json_schema(schema_generator=_Exact)
    except (pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema) as error:
        raise ArgumentError(
            f"{annotation!r:.80} has no JSON schema ({error}): use a type that JSON can write"
        ) from None


def tighten(schema: Mapping[str, Any] | bool) -> Schema:
    """A schema the engine can hold, every value of which the given one allows; refuses what cannot be held."""
    definitions = {} if isinstance(schema, bool) else schema.get("$defs", schema.get("definitions", {}))
    whole = _node(schema, definitions)
    if definitions:
        whole["$defs"] = {name: _node(part, definitions) for name, part in definitions.items()}
    return whole


def _node(schema: Any, definitions: Schema) -> Schema:
    if isinstance(schema, bool):
        if not schema:
            raise ArgumentError("schema: false allows nothing; leave it out")
        return _anything()
    if refused := [word for word in _REFUSED if word in schema]:
        raise ArgumentError(f"schema: {refused[0]} = {schema[refused[0]]!r:.80} cannot be held; say it in other words")
    if "$ref" in schema:
        # Where it leads is there for all of them.
        return {"$ref": str(schema["$ref"]).replace("#/definitions/", "#/$defs/")}
    if "const" in schema or "enum" in schema:
        return _constants([schema["const"]] if "const" in schema else schema["enum"])
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return _combined(word, schema, definitions)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _any_of([{**schema, "type": one} for one in kind], definitions)
    kind = kind or next((k for k, words in _KEYWORDS.items() if any(word in schema for word in words)), None)
    if kind is None:
        return _anything()
    if kind in ("null", "boolean"):
        return {"type": kind}
    if kind in ("integer", "number"):
        return _number(kind, schema)
    if kind == "string":
        return _string(schema)
    if kind == "array":
        return _array(schema, definitions)
    if kind == "object":
        return _object(schema, definitions)
    raise ArgumentError(f"schema: type = {kind!r:.80} is none of JSON's types")


def _constants(values: list[Any]) -> Schema:
    for value in values:
        if isinstance(value, str) and re.search(f"[{ODD}]", value):
            raise ArgumentError(f"schema: {value!r:.80} holds an unusual line end; use a line feed")
    return {"enum": list(values)}


def _combined(word: str, schema: Mapping[str, Any], definitions: Schema) -> Schema:
    beside = [k for words in _KEYWORDS.values() for k in words if k in schema]
    options = schema[word]
    if beside or (word == "allOf" and len(options) > 1):
        raise ArgumentError(
            f"schema: {word} with {beside or f'{len(options)} parts'} cannot be held; merge them into one"
        )
    if word == "oneOf" and "discriminator" not in schema:
        return {
            "oneOf": [_node(option, definitions) for option in options]
        }  # the engine sees whether they are disjoint
    return _any_of(options, definitions)


def _any_of(options: list[Any], definitions: Schema) -> Schema:
    held, errors = [], []
    for option in options:
        try:
            held.append(_node(option, definitions))
        except ArgumentError as error:  # fewer options are still options
            errors.append(error)
    if not held:
        raise errors[0] if errors else ArgumentError("schema: anyOf of nothing allows nothing")
    return held[0] if len(held) == 1 else {"anyOf": held}


def _number(kind: str, schema: Mapping[str, Any]) -> Schema:
    bounds = {k: schema[k] for k in _KEYWORDS["number"] if schema.get(k) is not None}
    low = max(bounds.get("minimum", -math.inf), bounds.get("exclusiveMinimum", -math.inf))
    high = min(bounds.get("maximum", math.inf), bounds.get("exclusiveMaximum", math.inf))
    made = {"type": kind, **bounds}
    if low == -math.inf:
        made["minimum"] = min(-LARGEST, int(high) * 10 if high < 0 else 0)
    if high == math.inf:
        made["maximum"] = max(LARGEST, int(low) * 10 if low > 0 else 0)
    if kind == "number":
        # A multiple of 0.000001 has six places: there is no other way to bound them.
        narrow = high - low if 0 < high - low < 1 else 1
        made.setdefault("multipleOf", 10.0 ** -(DECIMALS + math.ceil(-math.log10(narrow))))
    return made


def _string(schema: Mapping[str, Any]) -> Schema:
    least = schema.get("minLength", 1)
    most = schema.get("maxLength", max(LONGEST_STRING, 2 * least))
    if least > most:
        raise ArgumentError(f"schema: minLength = {least} is more than maxLength = {most}")
    name = schema.get("format")
    if name in FORMATS:
        return _found(schema, f"^(?:{FORMATS[name]})$")
    if name is not None and name not in _ANY_STRING:
        raise ArgumentError(f"schema: format = {name!r:.80} is not known; there are {', '.join(FORMATS)}")
    # Lengths as part of the pattern: beside it the engine would have to follow their product.
    text = f"[^{ODD}]{{{max(0, least - 1)},{max(0, most - 1)}}}"
    return _found(schema, f"^(?:[^{ODD}]{text})?$" if least == 0 and most else rf"^\S{text}$" if most else "^$")


def _found(schema: Mapping[str, Any], pattern: str) -> Schema:
    """Strings of a pattern, and of the schema's own where there is one."""
    made: Schema = {"type": "string", "pattern": pattern}
    return {"allOf": [{**made, "pattern": schema["pattern"]}, made]} if "pattern" in schema else made


def _array(schema: Mapping[str, Any], definitions: Schema) -> Schema:
    least = schema.get("minItems", 0)
    if schema.get("uniqueItems") and least > 1:
        raise ArgumentError(f"schema: minItems = {least} with uniqueItems cannot be held; ask for a list")
    made: Schema = {"type": "array"}
    if first := schema.get("prefixItems"):
        made["prefixItems"] = [_node(item, definitions) for item in first]
    rest = schema.get("items", not first)
    made["items"] = False if rest is False else _node(rest, definitions)
    made["minItems"], made["maxItems"] = least, schema.get("maxItems", max(MOST_ITEMS, least))
    return made


def _object(schema: Mapping[str, Any], definitions: Schema) -> Schema:
    made: Schema = {"type": "object", "additionalProperties": False}
    made |= {word: schema[word] for word in ("minProperties", "maxProperties") if word in schema}
    if "properties" in schema or schema.get("additionalProperties") is False:
        properties = schema.get("properties", {})
        made["properties"] = {name: _node(part, definitions) for name, part in properties.items()}
        made["required"] = schema.get("required", [])
        return made
    if made.get("minProperties", 0) > 1:
        raise ArgumentError(f"schema: minProperties = {made['minProperties']}: keys may come twice; name them")
    values = schema.get("patternProperties") or {
        _key(schema.get("propertyNames", {}), definitions): schema.get("additionalProperties", True)
    }
    made["patternProperties"] = {pattern: _node(value, definitions) for pattern, value in values.items()}
    made.setdefault("maxProperties", MOST_ITEMS)
    return made


def _key(schema: Mapping[str, Any], definitions: Schema) -> str:
    """The pattern of keys that a schema describes."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    kind, name = schema.get("type", "string"), schema.get("format")
    if "const" in schema or "enum" in schema:
        names = [schema["const"]] if "const" in schema else schema["enum"]
        return f"^(?:{'|'.join(re.escape(str(name)) for name in names)})$"
    if kind == "integer" and not any(word in schema for word in _KEYWORDS["number"]):
        return "^(?:0|[1-9][0-9]{0,8})$"
    if name in FORMATS:
        return f"^(?:{FORMATS[name]})$"
    if kind == "string" and name is None and not any(word in schema for word in ("minLength", "maxLength")):
        return str(schema.get("pattern", _KEY))
    raise ArgumentError(
        f"schema: propertyNames = {schema!r:.80} cannot be held; use plain strings or a Literal as keys"
    )


def _anything() -> Schema:
    """Any JSON value two levels deep: what has no schema must still come to an end."""
    leaves = [_string({}), _number("number", {}), {"type": "boolean"}, {"type": "null"}]
    inner: Schema = {"anyOf": leaves}
    array = {"type": "array", "items": inner, "maxItems": MOST_ITEMS}
    keyed = {"type": "object", "patternProperties": {_KEY: inner}, "additionalProperties": False}
    return {"anyOf": [*leaves, array, {**keyed, "maxProperties": MOST_ITEMS}]}


class _Exact(GenerateJsonSchema):
    """Pydantic's generator, where its schemas allow more than its validation."""

    ignored_warning_kinds = frozenset({"skipped-choice", "non-serializable-default"})  # type: ignore[assignment]

    def decimal_schema(self, schema: Any) -> Schema:
        words = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
        made: Schema = {"type": "number"} | {word: float(schema[k]) for k, word in words.items() if k in schema}
        places = schema.get("decimal_places")
        if "max_digits" in schema or "multiple_of" in schema:
            raise ArgumentError(
                "a Decimal with max_digits or multiple_of cannot be held; use decimal_places and bounds"
            )
        return made if places is None else {**made, "multipleOf": 10.0**-places}

    def dict_schema(self, schema: Any) -> Schema:
        made = super().dict_schema(schema)
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        if keys and "patternProperties" not in made:
            made["propertyNames"] = keys
        return made

    def datetime_schema(self, schema: Any) -> Schema:
        made = _unbounded(super().datetime_schema, schema)
        zone = schema.get("tz_constraint")
        return made if zone is None else {**made, "pattern": "Z$" if zone == "aware" else "[0-9]$"}

    def date_schema(self, schema: Any) -> Schema:
        return _unbounded(super().date_schema, schema)

    def time_schema(self, schema: Any) -> Schema:
        return _unbounded(super().time_schema, schema)

    def timedelta_schema(self, schema: Any) -> Schema:
        return _unbounded(super().timedelta_schema, schema)


def _unbounded(make: Callable[[Any], Schema], schema: Any) -> Schema:
    if found := [k for k in ("ge", "gt", "le", "lt", "now_op") if k in schema]:
        raise ArgumentError(
            f"{schema['type']} with {found[0]} = {schema[found[0]]!r} cannot be held; check it afterwards"
        )
    return make(schema)
