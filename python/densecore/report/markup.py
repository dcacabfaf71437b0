"""Text of others inside HTML and SVG: escaped, and unable to reorder or hide what stands around it."""

from __future__ import annotations

import html
import re

# Controls other than a new line and a tab, marks that set the direction of what follows, other ends of lines, halves of
# surrogate pairs, and what is no character.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")


def escape(value: object) -> str:
    """A text for the content of an element or a quoted attribute; characters that steer are named instead.

    >>> escape('</script><b a="1">')
    '&lt;/script&gt;&lt;b a=&quot;1&quot;&gt;'
    >>> escape("left\\u202eright")
    'left[U+202E]right'
    """
    text = str(value).replace("\r\n", "\n")
    return html.escape(_STEERING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text))


def said(value: object) -> str:
    """A text of a data set or a model as an element of its own, with its own direction of writing.

    >>> said("1 < 2")
    '<bdi dir="auto">1 &lt; 2</bdi>'
    """
    return f'<bdi dir="auto">{escape(value)}</bdi>'


def element(name: str, content: str = "", **attributes: object) -> str:
    """An element; ``content`` is markup already, attributes are escaped. ``class_`` is ``class``, ``_`` a hyphen.

    >>> element("td", "4", class_="number")
    '<td class="number">4</td>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>"
