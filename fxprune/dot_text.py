"""Text in the DOT language of Graphviz: names can hold anything, and must not get out of quotes."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, TypeAlias

from fxprune.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping


Look: TypeAlias = dict[str, "str | float | bool"]
"""Attributes of a node, an edge or a graph."""


class Markup(str):
    """Text that is an HTML-like label of Graphviz already."""

    __slots__ = ()


def quoted(text: str) -> str:
    r"""A text as a quoted string of DOT that is shown as it is.

    Graphviz reads `\N` and the like in labels, and entities of HTML too.

    >>> print(quoted('a "b" \\N <c> & d'))
    "a \"b\" \\N <c> &amp; d"
    """
    plain = printable(text).replace("&", "&amp;")
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def markup(text: str) -> Markup:
    r"""A text as it is written in an HTML-like label, on one line.

    Graphviz reads `\N` and the like after entities, and refuses tags without text.

    >>> markup('x < "y" & \\N'), markup("")
    ('x &lt; &quot;y&quot; &amp; &#92;&#92;N', ' ')
    """
    return Markup(escape(printable(" ".join(text.split()) or " ")).replace("\\", "&#92;&#92;"))


def tooltip(text: str) -> str:
    r"""A text as the value of the attribute `tooltip`, in which Graphviz reads escapes twice.

    >>> print(tooltip("a\\N"))
    a\\N
    """
    return printable(text).replace("\\", "\\\\")


def bold(text: str) -> Markup:
    """A text in bold print."""
    return Markup(f"<B>{markup(text)}</B>")


def small(text: str) -> Markup:
    """A text in small print."""
    return Markup(f'<FONT POINT-SIZE="9">{markup(text)}</FONT>')


def attributes(values: Mapping[str, str | float | bool]) -> str:
    """A list of attributes, in the order given; empty if there are none.

    >>> attributes({"label": "a b", "width": 1.5})
    ' [label="a b", width=1.5]'
    """
    found = ", ".join(f"{name}={_value(value)}" for name, value in values.items())
    return f" [{found}]" if found else ""


def _value(value: str | float | bool) -> str:
    if isinstance(value, Markup):
        return f"<{value}>"
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(value) if isinstance(value, str) else f"{value:.15g}"
