"""Python types as JSON schemas, with what pydantic's own schemas leave out.

>>> import datetime
>>> of_type(dict[int, datetime.date])["propertyNames"]
{'type': 'integer'}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema

from densecore.dspy.formats import AWARE, NAIVE
from densecore.errors import ArgumentError

Schema = dict[str, Any]
STRIPPED = "x-stripped"
"""Of a text whose blanks at both ends do not count, so that it should have none."""
_CONVERTED = {
    "bytes", "date", "datetime", "decimal", "enum", "frozenset", "multi-host-url", "set", "time", "timedelta", "tuple", "url",
    "uuid",
}  # fmt: skip
"""Core schemas whose values are texts, numbers or lists in JSON, and are converted."""


def of_type(annotation: Any) -> Schema:
    """The schema of a Python type as pydantic reads it, with the constraints that pydantic's own schemas leave out."""
    try:
        return pydantic.TypeAdapter(annotation).json_schema(schema_generator=_Exact)
    except (pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema) as error:
        raise ArgumentError(
            f"{annotation!r:.80} has no JSON schema ({error}): use a type that JSON can write"
        ) from None


class _Exact(GenerateJsonSchema):
    """Pydantic's generator, where its schemas allow more than its validation."""

    ignored_warning_kinds = frozenset({"skipped-choice", "non-serializable-default"})  # type: ignore[assignment]

    strict = False
    """Within a model that takes values of Python's own types alone."""

    def generate_inner(self, schema: Any) -> Schema:
        kind = schema.get("type")
        if kind in _CONVERTED and (schema.get("strict") or self.strict):
            raise ArgumentError(f"a strict {kind} refuses what JSON can write; leave strict out")
        return dict(super().generate_inner(schema))

    def model_schema(self, schema: Any) -> Schema:
        outer, self.strict = self.strict, bool(schema.get("config", {}).get("strict", self.strict))
        try:
            return super().model_schema(schema)
        finally:
            self.strict = outer

    def str_schema(self, schema: Any) -> Schema:
        made = super().str_schema(schema)
        return {**made, STRIPPED: True} if schema.get("strip_whitespace") else made

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
        made, zone = _unbounded(super().datetime_schema, schema), schema.get("tz_constraint")
        return made if zone is None else {**made, "format": AWARE if zone == "aware" else NAIVE}

    def complex_schema(self, schema: Any) -> Schema:
        raise ArgumentError("a complex number has no JSON schema; use two numbers")

    def url_schema(self, schema: Any) -> Schema:
        if not {"http", "https"} <= set(schema.get("allowed_schemes", ("http", "https"))):
            raise ArgumentError(f"a URL of {schema['allowed_schemes']} cannot be held; use http or a text")
        return super().url_schema(schema)

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
