"""Python types as JSON schemas, with what pydantic's own schemas leave out.

>>> import datetime
>>> of_type(dict[int, datetime.date])["propertyNames"]
{'type': 'integer'}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pydantic
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from densecore.errors import ArgumentError
from densecore.forms.formats import AWARE, NAIVE, STRIPPED

Schema = dict[str, Any]
_CONVERTED = {
    "bytes", "date", "datetime", "decimal", "enum", "frozenset", "lax-or-strict", "multi-host-url", "set", "time",
    "timedelta", "tuple", "url", "uuid",
}  # fmt: skip
"""Core schemas whose values are texts, numbers or lists in JSON, and are converted."""


def of_type(annotation: Any) -> Schema:
    """The schema of a Python type as pydantic reads it, with the constraints that pydantic's own schemas leave out."""
    try:
        return pydantic.TypeAdapter(annotation).json_schema(schema_generator=_Exact)
    except (pydantic.PydanticUserError, PydanticInvalidForJsonSchema) as error:
        raise ArgumentError(
            f"{annotation!r:.80} has no JSON schema ({error}): use a type that JSON can write"
        ) from None


class _Exact(GenerateJsonSchema):
    """Pydantic's generator, where its schemas allow more than its validation."""

    ignored_warning_kinds = frozenset({"skipped-choice", "non-serializable-default"})  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._nearest: Mapping[str, Any] = {}  # of the nearest model
        self._kinds: dict[str, str] = {}  # kinds of what is defined once and referred to

    def generate_inner(self, schema: Any) -> Schema:
        self._refuse_strict(schema["type"], schema.get("strict"))
        return dict(super().generate_inner(schema))

    def _refuse_strict(self, kind: str, own: bool | None = None) -> None:
        """Where Python's own types alone are taken, what JSON can write is none of them."""
        if kind in _CONVERTED and (self._nearest.get("strict") if own is None else own):
            raise PydanticInvalidForJsonSchema(f"a strict {kind} refuses what JSON can write; leave strict out")

    def _within(self, schema: Any, make: Callable[[Any], Schema], config: Mapping[str, Any]) -> Schema:
        outer, self._nearest = self._nearest, config
        try:
            return make(schema)
        finally:
            self._nearest = outer

    def model_schema(self, schema: Any) -> Schema:
        return self._within(schema, super().model_schema, schema.get("config", {}))

    def dataclass_schema(self, schema: Any) -> Schema:
        return self._within(schema, super().dataclass_schema, schema.get("config", {}))

    def typed_dict_schema(self, schema: Any) -> Schema:
        return self._within(schema, super().typed_dict_schema, schema.get("config", self._nearest))

    def definitions_schema(self, schema: Any) -> Schema:
        self._kinds |= {each["ref"]: each["type"] for each in schema["definitions"]}
        return super().definitions_schema(schema)

    def definition_ref_schema(self, schema: Any) -> Schema:
        self._refuse_strict(self._kinds.get(schema["schema_ref"], ""))
        return super().definition_ref_schema(schema)

    def str_schema(self, schema: Any) -> Schema:
        made = super().str_schema(schema)
        stripped = schema.get("strip_whitespace", self._nearest.get("str_strip_whitespace"))
        return {**made, STRIPPED: True} if stripped else made

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
