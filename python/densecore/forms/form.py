"""Forms an answer can be held to: whatever the model would rather say, it can say nothing else.

>>> import densecore
>>> model = densecore.Model.load("smollm2-135m-instruct")
>>> model.generate("Is water wet? Answer: ", form=densecore.Choice(["yes", "no"])).text in ("yes", "no")
True
>>> import json
>>> schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
>>> answer = model.generate("A person as JSON: ", form=densecore.Json(schema), max_tokens=40).text
>>> isinstance(json.loads(answer)["age"], int)
True
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from densecore.errors import ArgumentError


class Form:
    """What an answer must look like: one of :class:`Json`, :class:`Regex`, :class:`Choice` and :class:`Lark`.

    The answer ends within its ``max_tokens``: near the end only what can still be finished is written, and where that was
    not what the model would have written, ``finish_reason`` is ``"length"``. A ``max_tokens`` that the shortest answer
    exceeds is refused.
    """

    __slots__ = ("exits", "kind", "stretch", "strings", "texts")

    def __init__(
        self, kind: str, texts: Sequence[str], exits: Sequence[str] = (), stretch: int | None = None, strings: int = 0
    ) -> None:
        for text in (*texts, *exits):
            if not isinstance(text, str):
                raise ArgumentError(f"form = {text!r:.80}: it must be a str")
        if stretch is not None and (isinstance(stretch, bool) or not isinstance(stretch, int) or stretch < 1):
            raise ArgumentError(f"stretch = {stretch!r:.80}: it must be a whole number from 1, or None")
        if isinstance(strings, bool) or not isinstance(strings, int) or strings < 0:
            raise ArgumentError(f"strings = {strings!r:.80}: it must be a whole number from 0")
        self.kind, self.texts, self.exits, self.stretch = kind, list(texts), list(exits), stretch
        self.strings = strings

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{text!r:.60}' for text in self.texts)})"


class Json(Form):
    """A JSON text of a schema, given as a mapping or as JSON."""

    __slots__ = ()

    def __init__(self, schema: Mapping[str, Any] | str) -> None:
        if not isinstance(schema, str):
            try:
                schema = json.dumps(schema)
            except (TypeError, ValueError) as error:
                raise ArgumentError(f"form = {schema!r:.80}: a schema must be plain JSON ({error})") from None
        super().__init__("json", [schema])


class Regex(Form):
    """A text that a regular expression matches as a whole; without look-around and back references."""

    __slots__ = ()

    def __init__(self, pattern: str | re.Pattern[str]) -> None:
        super().__init__("regex", [pattern.pattern if isinstance(pattern, re.Pattern) else pattern])


class Choice(Form):
    """One of some texts."""

    __slots__ = ()

    def __init__(self, texts: Sequence[str]) -> None:
        if isinstance(texts, str):
            raise ArgumentError(f"form = {texts!r:.80}: a choice is a list of texts")
        super().__init__("choice", texts)


class Lark(Form):
    """A text of a Lark grammar, in the dialect of llguidance, which starts at ``start``.

    Args:
        grammar: The rules.
        closers: Texts that lead to the end, tried in order when the tokens run short.
        exits: Texts that lead on where the model would end its answer and may not yet: the first that fits is written, and a
            text that could go on ends where its writer would end it. They must be no text that could stand there.
        stretch: Tokens that such a text should have at most. Among the last of them its end becomes likelier and likelier, so
            that it ends where that is least out of place.
        strings: JSON strings that the answer may hold. Each may have its share of the tokens that are left, and towards the end
            of it its end becomes likelier, as with ``stretch``.
    """

    __slots__ = ()

    def __init__(
        self,
        grammar: str,
        closers: Sequence[str] = (),
        *,
        exits: Sequence[str] = (),
        stretch: int | None = None,
        strings: int = 0,
    ) -> None:
        super().__init__("lark", [grammar, *closers], exits, stretch, strings)


def read(form: object) -> dict[str, Any] | None:
    """The engine's side of a form."""
    if form is None:
        return None
    if not isinstance(form, Form):
        raise ArgumentError(f"form = {form!r:.80}: give densecore.Json, Regex, Choice or Lark")
    if form.kind == "lark":
        text, *closers = form.texts
        more = {"closers": closers, "exits": form.exits, "stretch": form.stretch, "strings": form.strings}
        return {"lark": {"text": text, **more}}
    return {form.kind: form.texts if form.kind == "choice" else form.texts[0]}
