"""A page as HTML: one file without scripts, that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from fxprune.errors import printable
from fxprune.reports.cells import Cell, Column, Paragraph, Part, Plot, Section, Table, Tile

if TYPE_CHECKING:
    from fxprune.reports.cells import Page


def html_of(page: Page) -> str:
    """The page as the text of an HTML file; the same page gives the same text.

    All texts are escaped: names of modules can be anyone's.
    """
    return "\n".join(_lines(page)) + "\n"


def _lines(page: Page) -> Iterator[str]:
    title = _told(page.title)
    style = files("fxprune.reports").joinpath("page.css").read_text("utf-8").strip()
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield '<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{title}</title>\n<style>\n{style}\n</style>\n</head>"
    yield f"<body>\n<main>\n<h1>{title}</h1>"
    yield '<div class="tiles">'
    yield from map(_tile, page.tiles)
    yield "</div>\n<nav>"
    yield " ".join(f'<a href="#{s.name}">{_told(s.title)}</a>' for s in page.sections)
    yield "</nav>"
    for section in page.sections:
        yield from _section(section)
    yield "</main>\n</body>\n</html>"


def _told(text: str) -> str:
    """A text in HTML, in which nothing is markup or steers a terminal."""
    return escape(printable(text))


def _tile(tile: Tile) -> str:
    kind = {True: " good", False: " bad", None: ""}[tile.good]
    return (
        f'<div class="tile{kind}" data-values="{_exactly(tile.values)}">'
        f"<h2>{_told(tile.title)}</h2><b>{_told(tile.figure)}</b><small>{_told(tile.note)}</small></div>"
    )


def _section(section: Section) -> Iterator[str]:
    yield f'<section id="{section.name}">\n<h2>{_told(section.title)}</h2>'
    for part in section.parts:
        yield from _part(part)
    yield "</section>"


def _part(part: Part) -> Iterator[str]:
    match part:
        case Paragraph(text, warning):
            kind = ' class="warning"' if warning else ""
            yield f"<p{kind}>{_told(text)}</p>"
        case Plot(svg, label):
            yield f'<figure role="img" aria-label="{_told(label)}">\n{svg}\n</figure>'
        case Table():
            yield from _table(part)


def _table(table: Table) -> Iterator[str]:
    if table.summary:
        yield f"<details>\n<summary>{_told(table.summary)}</summary>"
    yield f'<div class="wide"><table id="table-{table.name}">'
    if any(column.title for column in table.columns):
        heads = "".join(
            f"<th{_css_class(column)}>{_told(column.title)}</th>" for column in table.columns
        )
        yield f"<thead><tr>{heads}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        fields = (_field(cell, at) for cell, at in zip(row, table.columns, strict=True))
        yield f"<tr>{''.join(fields)}</tr>"
    yield "</tbody></table></div>"
    if table.summary:
        yield "</details>"


def _css_class(column: Column, cell: Cell | None = None) -> str:
    names = ["number"] if column.numeric else []
    if cell is not None:
        names += ["changed"] if cell.changed else []
        names += ["bars"] if cell.bar is not None else []
    return f' class="{" ".join(names)}"' if names else ""


def _field(cell: Cell, column: Column) -> str:
    values = f' data-values="{_exactly(cell.values)}"' if cell.values else ""
    content = _told(cell.text)
    if cell.code and content:
        content = f"<code>{content}</code>"
    if cell.bar is not None:
        before, after = (f"{100 * part:.2f}%" for part in cell.bar)
        content = (
            f'<span class="bar"><i style="width:{before}"></i><b style="width:{after}"></b></span>'
            f"<small>{content}</small>"
        )
    return f"<td{_css_class(column, cell)}{values}>{content}</td>"


def _exactly(values: tuple[float, ...]) -> str:
    """Numbers with all their digits."""
    return " ".join(map(repr, values))
