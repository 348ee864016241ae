"""HTML and SVG that are escaped by construction: what is no markup already becomes text."""

from __future__ import annotations

import html
from typing import Any

_VOID = frozenset({"br", "img", "link", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Give an element; a trailing underscore of an attribute is left out, others become hyphens.

    Attributes that are None or False are left out, those that are True have no value. None and ""
    are no children; a list stands for its items; anything else than :class:`Markup` is escaped.

    Examples
    --------
    >>> tag("td", "a < b", class_="name", data_v=3)
    '<td class="name" data-v="3">a &lt; b</td>'
    """
    told = "".join(
        f" {key}" if value is True else f' {key}="{escaped(value)}"'
        for key, value in (
            (key.removesuffix("_").replace("_", "-"), value) for key, value in attributes.items()
        )
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(*children)}</{name}>")


def joined(*children: Any) -> Markup:
    """Give the children one after the other, as :func:`tag` does."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, list):
            parts.append(joined(*child))
        elif child is not None:
            parts.append(child if isinstance(child, Markup) else escaped(child))
    return Markup("".join(parts))


def escaped(value: Any) -> str:
    """Give text in which nothing is markup, and nothing that a file could not hold.

    Examples
    --------
    >>> escaped('</script>"\\0')
    '&lt;/script&gt;&quot; '
    """
    text = "".join(c if c.isprintable() or c == "\n" or ord(c) > 0x9F else " " for c in str(value))
    return html.escape(text.encode("utf-8", "replace").decode())


def cut(value: Any, most: int) -> str:
    """Give a text in at most so many letters.

    Examples
    --------
    >>> cut("abcdef", 4)
    'abc…'
    """
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
