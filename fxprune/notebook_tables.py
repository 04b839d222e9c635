"""What notebooks show: small HTML tables in the notebook's own colours.

Names in them can be anyone's, so every text is escaped. Only elements and inline styles are used
that every notebook and its converters keep: no style sheet, no script.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from fxprune.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.errors import Diagnostic

MOST_ROWS = 20
"""Of a table that are seen at once; the rest opens with a click."""
MOST_FOLDED = 500
"""Of the rest, and of remarks."""
Cell: TypeAlias = "str | int"
"""A text, or a number, which is aligned to the right."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


class Printer(Protocol):
    """What IPython hands to `_repr_pretty_`."""

    def text(self, text: str) -> Any:
        """Write a text."""


class Shown:
    """An object whose text in a notebook is what `print` shows, not all that it holds."""

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        printer.text(str(self))


def plain(value: object) -> Html:
    r"""A value as text in HTML, on one line.

    >>> plain("a <b>\x1b")
    'a &lt;b&gt;\\x1b'
    """
    return Html(escape(printable(" ".join(str(value).split()))))


def bold(value: object) -> Html:
    """A text in bold print."""
    return Html(f"<b>{_html(value)}</b>")


def paragraph(*parts: object) -> Html:
    """A line of text."""
    return Html(f"<div>{''.join(map(_html, parts))}</div>")


def bar(share: float) -> Html:
    """A share from 0 to 1 as a bar in the colour of the text.

    >>> bar(0.5) == bar(0.501)
    False
    """
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    frame = "display: inline-block; width: 5em; height: 0.6em; border: 1px solid currentColor"
    filled = f"display: block; width: {width}; height: 100%; background: currentColor"
    return Html(
        f'<span style="{frame}; opacity: 0.6"><span style="{filled}"></span></span> {share:.0%}'
    )


def listed(texts: Sequence[object]) -> Html:
    """A list of the first texts, and how many more there are; nothing if there are none."""
    if not texts:
        return Html("")
    items = [f"<li>{_html(text)}</li>" for text in texts[:MOST_FOLDED]]
    if left_out := len(texts) - len(items):
        items.append(f"<li>and {left_out:,} more</li>")
    return Html(f"<ul>{''.join(items)}</ul>")


def details(summary: object, *parts: Html) -> Html:
    """What opens with a click; nothing if there is nothing in it."""
    content = "".join(parts)
    if not content:
        return Html("")
    return Html(f"<details><summary>{_html(summary)}</summary>{content}</details>")


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Html:
    """A table of all rows, without a line if there are none.

    >>> table(["name", "size"], [["a", 1200]])
    '<table><thead>...<td style="text-align: right; padding: 0.1em 0.6em">1,200</td>...
    """
    if not rows:
        return Html("")
    sides = ["right" if isinstance(cell, int) else "left" for cell in rows[0]]
    head = _row("th", headings, sides)
    body = "".join(_row("td", row, sides) for row in rows)
    return Html(f"<table><thead>{head}</thead><tbody>{body}</tbody></table>")


def long_table(headings: Sequence[str], rows: Sequence[Sequence[Cell]], what: str) -> Html:
    """A table of the first rows, and one of the rest that opens with a click.

    Args:
        headings: of the columns.
        rows: the cells.
        what: what a row is, in the plural.
    """
    if len(rows) <= MOST_ROWS + 1:
        return table(headings, rows)
    rest = rows[MOST_ROWS:]
    left_out = len(rest) - MOST_FOLDED
    more = paragraph(f"and {left_out:,} more") if left_out > 0 else Html("")
    folded = details(f"{len(rest):,} more {what}", table(headings, rest[:MOST_FOLDED]), more)
    return Html(table(headings, rows[:MOST_ROWS]) + folded)


def diagnostics(summary: str, found: Sequence[Diagnostic]) -> Html:
    """Remarks, which open with a click."""
    return details(f"{summary} ({len(found)})", listed(found))


def whole(*parts: Html) -> str:
    """All that is shown of an object."""
    return f"<div>{''.join(parts)}</div>"


def _row(kind: str, cells: Sequence[Cell], sides: Sequence[str]) -> str:
    return f"<tr>{''.join(map(_cell, [kind] * len(cells), cells, sides))}</tr>"


def _cell(kind: str, cell: Cell, side: str) -> str:
    text = f"{cell:,}" if isinstance(cell, int) else _html(cell)
    return f'<{kind} style="text-align: {side}; padding: 0.1em 0.6em">{text}</{kind}>'


def _html(value: object) -> Html:
    return value if isinstance(value, Html) else plain(value)
