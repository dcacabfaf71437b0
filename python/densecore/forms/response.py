"""DSPy's ``response_format`` and the forms of answers: JSON of a schema, any JSON object, or a form of our own.

>>> read({"type": "json_schema", "schema": {"type": "boolean"}})
Json('{"type": "boolean"}')
>>> wrapped = wrap(Lark('start: "yes" | "no"'))["json_schema"]
>>> read({"type": "json_schema", "schema": wrapped["schema"]})
Lark('start: "yes" | "no"')
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from densecore.errors import ArgumentError
from densecore.forms.exact import exact
from densecore.forms.form import Form, Json, Lark
from densecore.model import Model
from densecore.results import Generation

_OURS = "densecore"  # a keyword no schema has


def wrap(form: Lark, capped: Mapping[str, int] | None = None) -> dict[str, Any]:
    """A form as plain JSON that DSPy passes on, and that is part of its cache's key.

    Args:
        form: What an answer must look like.
        capped: Fields of free text that others follow, and the tokens each may have.
    """
    ours = {
        "kind": form.kind,
        "texts": form.texts,
        "exits": form.exits,
        "stretch": form.stretch,
        "strings": form.strings,
        "capped": dict(capped or {}),
    }
    return {"type": "json_schema", "json_schema": {"name": _OURS, "schema": {_OURS: ours}}}


def read(response_format: Mapping[str, Any] | None) -> Form | None:
    """The form of a request."""
    if not response_format or response_format["type"] == "text":
        return None
    if response_format["type"] == "json_object":
        return Json({"type": "object"})
    schema = response_format.get("schema")
    if response_format["type"] != "json_schema" or not isinstance(schema, dict):
        raise ArgumentError(f"response_format = {response_format!r:.80}: give a json_schema or a json_object")
    ours = schema.get(_OURS)
    if ours is None:
        return Json(exact(schema))
    if ours["kind"] != "lark":
        raise ArgumentError(f"response_format: kind = {ours['kind']!r:.80} is not one that is sent here")
    more = {name: ours[name] for name in ("exits", "stretch", "strings")}
    return Lark(ours["texts"][0], ours["texts"][1:], **more)


def was_cut(response_format: Mapping[str, Any] | None, found: Generation, model: Model) -> bool:
    """Whether tokens were used up, the answer's or those of a text in it: whole as its form goes, not as its meaning.

    A text that found a place to end in time was not cut.
    """
    if found.finish_reason == "length":
        return True
    ours = ((response_format or {}).get("schema") or {}).get(_OURS, {})
    return any(
        len(found.ids) > most and _tokens(found, name, model) >= most for name, most in ours.get("capped", {}).items()
    )


def _tokens(found: Generation, name: str, model: Model) -> int:
    """Tokens of a field."""
    _, marker, rest = found.text.partition(f"[[ ## {name} ## ]]\n")
    start = len(found.text) - len(rest)
    ends = start, start + len(rest.partition("\n[[ ## ")[0].removesuffix("\n"))

    def written(count: int) -> int:
        return len(model.detokenize(found.ids[:count]))

    first, last = (bisect_left(range(len(found.ids)), end, key=written) for end in ends)
    return last - first if marker else 0
