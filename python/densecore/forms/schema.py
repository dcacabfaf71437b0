"""JSON schemas as grammars: what may be written is bounded, exact about dates, and nothing is let through unread.

A schema's author thinks of judging what is there; here every text that the schema allows may be written. So lengths get
caps where the author gave none, dates are those of the calendar, strings that must be there are not blank, and a keyword
that would constrain a text but cannot be held is an error rather than ignored.

>>> Rules().schema({"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 3})
'("[" ("1" | "2") (", " ("1" | "2")){0,2} "]")'
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from densecore.errors import ArgumentError
from densecore.forms.decimals import between, units
from densecore.forms.formats import ANY_STRING, FORMATS, STRIPPED

DIGITS = 12  # of a whole number without bounds
DECIMALS = 6  # places behind the point

# Characters of a string as JSON writes them, for which the engine has its masks ready; of escapes the usual few.
_NEXT = r'(?:[^"\\\x00-\x1f\x7f]|\\["\\nt])'
_FIRST = r'(?:[^\s"\\\x00-\x1f\x7f]|\\["\\])'
_KEY = f'/"{_FIRST}{_NEXT}*"/'
_INTEGER = f"-?(?:0|[1-9][0-9]{{0,{DIGITS - 1}}})"
_NUMBER = rf"{_INTEGER}(?:\.[0-9]{{1,{DECIMALS}}})?"

# Keywords that judge a value and have no counterpart here. All that are unknown say nothing about values.
REFUSED = (
    "not", "if", "then", "else", "contains", "dependencies", "dependentRequired", "dependentSchemas",
    "unevaluatedItems", "unevaluatedProperties", "additionalItems", "contentMediaType", "contentEncoding",
    "contentSchema", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
KEYWORDS = {
    "string": ("pattern", "format", "minLength", "maxLength"),
    "object": ("properties", "patternProperties", "additionalProperties", "propertyNames", "minProperties",
               "maxProperties", "required"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}  # fmt: skip


def quoted(text: str) -> str:
    """A text as a grammar writes it."""
    return _text(text)


def regex(pattern: str) -> str:
    """A regular expression without slashes that are escaped already, as a grammar writes it."""
    return f"/{pattern.replace('/', chr(92) + '/')}/"


class Rules:
    """Rules of a Lark grammar, collected while schemas become expressions over them."""

    def __init__(self) -> None:
        self.named: dict[str, str] = {}

    def __str__(self) -> str:
        return "".join(f"{name}: {body}\n" for name, body in self.named.items())

    def add(self, body: str) -> str:
        """A new rule's name."""
        name = f"x{len(self.named)}"
        self.named[name] = body
        return name

    def schema(self, schema: Mapping[str, Any] | bool) -> str:
        """An expression for the JSON texts of a schema; refuses what cannot be held."""
        definitions = {} if isinstance(schema, bool) else schema.get("$defs", schema.get("definitions", {}))
        return _Reader(self, definitions).node(schema)

    def anything(self) -> str:
        """The rule of any JSON value."""
        if "any" not in self.named:
            self.named["any"] = ""  # of itself
            leaf = self.add(f'{_string({})} | /{_NUMBER}/ | "true" | "false" | "null"')
            self.named["any"] = f"{leaf} | {_several('any')} | {_keyed({_KEY: 'any'})}"
        return "any"


class _Reader:
    """One schema on its way into rules."""

    def __init__(self, rules: Rules, definitions: Mapping[str, Any]) -> None:
        self.rules, self.definitions = rules, definitions
        self.references: dict[str, str] = {}

    def node(self, schema: Any) -> str:
        if schema is True:
            return self.rules.anything()
        if not isinstance(schema, Mapping):
            raise ArgumentError(f"schema {schema!r:.80} allows nothing; leave it out")
        if found := [word for word in REFUSED if word in schema]:
            raise refused(schema, f"{found[0]} cannot be held; say it in other words")
        if "$ref" in schema:
            return self.reference(schema["$ref"])
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return f"({' | '.join(quoted(_text(value)) for value in values)})"
        for word in ("anyOf", "oneOf", "allOf"):
            if word in schema:
                return self.combined(word, schema)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self.any_of([{**schema, "type": one} for one in kind])
        kind = kind or next((k for k, words in KEYWORDS.items() if any(word in schema for word in words)), None)
        makers: dict[Any, Callable[[Any], str]] = {
            None: lambda _: self.rules.anything(),
            "null": lambda _: '"null"',
            "boolean": lambda _: '("true" | "false")',
            "integer": _number,
            "number": _number,
            "string": _string,
            "array": self.array,
            "object": self.object,
        }
        if kind not in makers:
            raise refused(schema, f"type = {kind!r:.80} is none of JSON's")
        return makers[kind](schema)

    def reference(self, path: str) -> str:
        """The rule of a definition, which may speak of itself."""
        name = path.rpartition("/")[2]
        if path not in (f"#/$defs/{name}", f"#/definitions/{name}") or name not in self.definitions:
            raise ArgumentError(f"schema: $ref = {path!r:.80} cannot be held; refer to $defs")
        if name not in self.references:
            self.references[name] = rule = self.rules.add("")
            self.rules.named[rule] = self.node(self.definitions[name])
        return self.references[name]

    def resolved(self, schema: Any) -> Any:
        return _resolved(schema, self.definitions)

    def combined(self, word: str, schema: Mapping[str, Any]) -> str:
        beside = [k for words in KEYWORDS.values() for k in words if k in schema]
        options = schema[word]
        if beside or (word == "allOf" and len(options) > 1):
            raise refused(
                schema, f"{word} with {beside or f'{len(options)} parts'} cannot be held; merge them into one"
            )
        if word == "oneOf" and "discriminator" not in schema and not are_apart(options, self.definitions):
            raise refused(schema, "two options of oneOf may allow the same value; use anyOf")
        return self.any_of(options)

    def any_of(self, options: list[Any]) -> str:
        held, errors = [], []
        for option in options:
            try:
                held.append(self.node(option))
            except ArgumentError as error:  # fewer options are still options
                errors.append(error)
        if not held:
            raise errors[0] if errors else ArgumentError("schema: a choice of nothing allows nothing")
        return f"({' | '.join(held)})"

    def array(self, schema: Mapping[str, Any]) -> str:
        least = schema.get("minItems", 0)
        if schema.get("uniqueItems") and least > 1:
            raise refused(schema, "minItems with uniqueItems cannot be held; ask for a list")
        if first := schema.get("prefixItems"):
            if schema.get("items") or least < len(first) or schema.get("maxItems", len(first)) < len(first):
                raise refused(schema, "only tuples of one length can be held")
            items = ' ", " '.join(self.node(item) for item in first)
            return f'("[" {items} "]")'
        most = schema.get("maxItems")
        return '"[]"' if most == 0 else _several(self.node(schema.get("items", True)), least, most)

    def object(self, schema: Mapping[str, Any]) -> str:
        properties, free = schema.get("properties", {}), schema.get("additionalProperties", True)
        if not properties and free is not False:
            return self.keyed(schema, free)
        required = schema.get("required", [])
        if "minProperties" in schema or "maxProperties" in schema or set(required) - set(properties):
            raise refused(schema, "numbers of properties, and required ones without a schema, cannot be held")
        items = [(f"{quoted(_text(k) + ': ')} {self.node(v)}", k in required)
                 for k, v in properties.items()]  # fmt: skip
        # In their order; a comma stands before all but the first that is there.
        bare, after = '""', '""'
        for item, is_required in reversed(items):
            first = f"({item} {after})"
            bare = first if is_required else self.rules.add(f"{first} | {bare}")
            after = f'", " {item} {after}' if is_required else self.rules.add(f'(", " {item})? {after}')
        return f'("{{" {bare} "}}")'

    def keyed(self, schema: Mapping[str, Any], values: Any) -> str:
        least, most = schema.get("minProperties", 0), schema.get("maxProperties")
        if least > 1:
            raise refused(schema, "keys may come twice, so minProperties cannot be held; name them")
        pairs = {_string({"pattern": key}): part for key, part in schema.get("patternProperties", {}).items()}
        pairs = pairs or {self.key(schema.get("propertyNames", {})): values}
        return _keyed({key: self.node(part) for key, part in pairs.items()}, least, most)

    def key(self, schema: Mapping[str, Any]) -> str:
        """Keys that a schema describes."""
        schema = self.resolved(schema)
        kind = schema.get("type", "string")
        if "const" in schema or "enum" in schema:
            names = [schema["const"]] if "const" in schema else schema["enum"]
            return f"({' | '.join(quoted(_text(str(name))) for name in names)})"
        if kind == "integer" and not any(word in schema for word in KEYWORDS["number"]):
            return f'/"{_INTEGER}"/'
        if kind == "string":
            return _string(schema) if any(word in schema for word in KEYWORDS["string"]) else _KEY
        raise refused(schema, "keys of this kind cannot be held; use strings or a Literal")


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Any:
    return definitions.get(schema["$ref"].rpartition("/")[2], {}) if "$ref" in schema else schema


def are_apart(options: list[Any], definitions: Mapping[str, Any]) -> bool:
    """Whether no value fits two of the options, as far as their types and constants tell."""
    plain = [_resolved(option, definitions) for option in options]
    kinds = ["number" if option.get("type") == "integer" else option.get("type") for option in plain]
    fixed = [
        {name: part["const"] for name, part in option.get("properties", {}).items() if "const" in part}
        for option in plain
    ]
    return all(
        kinds[i] != kinds[j] or any(fixed[j].get(name, value) != value for name, value in fixed[i].items())
        for i in range(len(options))
        for j in range(i)
    )


def _several(item: str, least: int = 0, most: int | None = None, ends: str = "[]") -> str:
    more = (
        f' (", " {item}){{{max(0, least - 1)},{"" if most is None else most - 1}}}' if most is None or most > 1 else ""
    )
    several = f"{item}{more}"
    return f'("{ends[0]}" {several} "{ends[1]}")' if least else f'("{ends[0]}" ({several})? "{ends[1]}")'


def _keyed(pairs: Mapping[str, str], least: int = 0, most: int | None = None) -> str:
    pair = " | ".join(f'{key} ": " {value}' for key, value in pairs.items())
    return _several(f"({pair})", least, most, "{}")


def _number(schema: Mapping[str, Any]) -> str:
    bounds = {k: schema[k] for k in KEYWORDS["number"] if schema.get(k) is not None}
    step = bounds.pop("multipleOf", None)
    is_whole = schema.get("type") == "integer" or (step is not None and step == int(step))
    places = 0 if is_whole else DECIMALS
    if step is not None and not is_whole:
        places = round(-math.log10(step))
        if not math.isclose(step, 10.0**-places):
            raise refused(schema, "of fractions only tenths, hundredths and so on can be held as multipleOf")
    elif not bounds and step is None:
        return f"/{_INTEGER if is_whole else _NUMBER}/"
    least = max(bounds.get("minimum", -math.inf), bounds.get("exclusiveMinimum", -math.inf))
    most = min(bounds.get("maximum", math.inf), bounds.get("exclusiveMaximum", math.inf))
    above, below = least == bounds.get("exclusiveMinimum"), most == bounds.get("exclusiveMaximum")
    if least == -math.inf:
        least, above = -max(10**DIGITS, -10 * int(min(most, 0) if most != math.inf else 0)), True
    if most == math.inf:
        most, below = max(10**DIGITS, 10 * int(max(least, 0))), True
    found = between(least, most, places, above=above, below=below)
    if not found:
        raise refused(schema, f"there is no such number with {places} places")
    if is_whole and step is not None and step != 1:
        low, high = units(least, most, 0, above=above, below=below)
        return f"%json {json.dumps({'type': 'integer', 'minimum': low, 'maximum': high, 'multipleOf': int(step)})}"
    return f"/{found}/"


def _string(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minLength", 1), schema.get("maxLength")
    name, pattern = schema.get("format"), schema.get("pattern")
    if most is not None and least > most:
        raise refused(schema, "minLength is more than maxLength")
    if name is not None and name not in FORMATS and name not in ANY_STRING:
        raise refused(schema, f"format = {name!r:.80} is not known; there are {', '.join(FORMATS)}")
    if pattern is not None:
        if name in FORMATS:
            raise refused(schema, "a pattern beside a format cannot be held; leave one out")
        limit = {} if most is None else {"maxLength": most}
        return f"%json {json.dumps({'type': 'string', 'pattern': pattern, 'minLength': least, **limit})}"
    if name in FORMATS:
        return regex(f'"(?:{FORMATS[name]})"')
    if most == 0:
        return '"\\"\\""'
    if schema.get(STRIPPED) and (most is None or most > 1):  # begins and ends with what is no blank
        rest = f"{_times(max(0, least - 2), None if most is None else most - 2)}{_FIRST}"
        written = f"{_FIRST}{rest}" if least > 1 else f"{_FIRST}(?:{rest})?"
    else:
        written = f"{_FIRST}{_times(max(0, least - 1), None if most is None else most - 1)}"
    return f'/"{written}"/' if least else f'/"(?:{written})?"/'


def _times(least: int, most: int | None) -> str:
    """So many characters of a string."""
    return f"{_NEXT}*" if (least, most) == (0, None) else f"{_NEXT}{{{least},{'' if most is None else most}}}"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def refused(schema: object, why: str) -> ArgumentError:
    """The error for a schema that cannot be held."""
    return ArgumentError(f"schema {json.dumps(schema, default=str)[:120]}: {why}")
