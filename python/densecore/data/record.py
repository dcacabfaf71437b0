"""A record: one raw row as it was read, with the place it came from, which every complaint about it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from densecore.errors import DataError

# A gold figure longer than this is no figure; Decimal and int would take seconds over some of them.
_DIGITS = 60
_FIGURE = re.compile(r"([-+]?)[$]?(\d{1,3}(?:,\d{3})+|\d*)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of one row, its position among the rows of its source (from 0), and where that is."""

    fields: Mapping[str, object]
    index: int
    place: str

    def error(self, what: str) -> DataError:
        """The complaint ``what`` about this row, with its place."""
        return DataError(f"{self.place}: {what}")

    def value(self, name: str) -> object:
        """A field that must be there."""
        if name not in self.fields:
            shown = ", ".join(sorted(map(str, self.fields))) or "nothing"
            raise self.error(f"field {name!r} is missing; the row has {shown:.200}")
        return self.fields[name]

    def text(self, name: str) -> str:
        """A text that must be there and say something, without surrounding white space."""
        return self.filled(name, self.value(name)).strip()

    def key(self, name: str) -> str:
        """An id that must be there: a text or a whole number, as a text."""
        value = self.value(name)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(name)

    def texts(self, name: str, value: object) -> list[str]:
        """A list of texts, none of them empty."""
        if not isinstance(value, (list, tuple)):
            raise self.error(f"field {name!r} is {_kind(value)}; it must be a list of texts")
        return [self.filled(f"{name}[{number}]", entry) for number, entry in enumerate(value)]

    def filled(self, name: str, value: object) -> str:
        """``value``, which must be a text that says something."""
        said = self.string(name, value)
        if not said.strip():
            raise self.error(f"field {name!r} is empty")
        return said

    def string(self, name: str, value: object) -> str:
        """``value``, which must be a text; half a surrogate pair is none."""
        if not isinstance(value, str):
            raise self.error(f"field {name!r} is {_kind(value)}; it must be a text")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise self.error(f"field {name!r} holds half a surrogate pair, which is no character") from None
        return value

    def figure(self, name: str, value: object) -> str:
        """A number, or the text of one, as plain decimal digits: ``"1,000"`` and ``1000.0`` are both ``"1000"``."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = repr(value)
        said = self.filled(name, value).strip()
        found = _FIGURE.fullmatch(said) if len(said) <= _DIGITS else None
        if found is None or not (found[2] or found[3]):
            raise self.error(f"field {name!r} = {said!r:.80}: it must be a number")
        whole, part = found[2].replace(",", "").lstrip("0") or "0", (found[3] or "").rstrip("0")
        plain = f"{whole}.{part}" if part else whole
        return plain if plain == "0" or found[1] != "-" else f"-{plain}"


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")
