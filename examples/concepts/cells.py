"""Rows of cells as SVG: an axis of a tensor is a row, a position a cell."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CELL, HEIGHT, MARGIN = 38, 26, 16
GLYPH = 7.9  # The width of a character of the labels.
_FONT = "font-family='ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace' font-size='13'"
_HATCH = (
    "<pattern id='hatch' width='6' height='6' patternUnits='userSpaceOnUse' "
    "patternTransform='rotate(45)'><rect width='6' height='6' fill='#F4F4F4'/>"
    "<line x1='0' y1='0' x2='0' y2='6' stroke='#B5B5B5' stroke-width='2'/></pattern>"
)


@dataclass(frozen=True)
class Cell:
    """A position: its text and fill. One that must stay is hatched, one that goes is crossed."""

    text: str = ""
    fill: str | None = None
    gone: bool = False


@dataclass(frozen=True)
class Row:
    """Cells behind a label, a note behind the cells, and the space above."""

    label: str
    cells: tuple[Cell, ...]
    note: str = ""
    gap: int = 10


def svg_of(rows: Sequence[Row], legend: Mapping[str, str | None], title: str) -> str:
    """The picture of the rows, with a legend of names and fills below."""
    left = MARGIN + GLYPH * max(len(row.label) for row in rows) + 12
    right = max(left + CELL * len(r.cells) + GLYPH * (len(r.note) + 2) for r in rows)
    parts: list[str] = []
    y = float(MARGIN)
    for row in rows:
        y += row.gap
        parts += _row(row, left, y)
        y += HEIGHT
    y += 24
    for name, fill in legend.items():
        right = max(right, MARGIN + 28 + GLYPH * len(name))
        parts += [*_box(Cell(fill=fill), MARGIN, y, 18, 18), _text(name, MARGIN + 28, y + 9)]
        y += 24
    width, height = round(right + MARGIN), round(y + MARGIN)
    size = f"width='{width}' height='{height}'"
    head = f"xmlns='http://www.w3.org/2000/svg' {size} viewBox='0 0 {width} {height}' role='img'"
    lines = [
        f"<svg {head} {_FONT}>",
        f"<title>{escape(title)}</title><defs>{_HATCH}</defs>",
        f"<rect {size} rx='6' fill='#FFFFFF'/>",
        *parts,
        "</svg>",
    ]
    return "\n".join([*lines, ""])


def _row(row: Row, left: float, y: float) -> Iterator[str]:
    if row.label:
        yield _text(row.label, left - 12, y + HEIGHT / 2, anchor="end")
    for k, cell in enumerate(row.cells):
        yield from _box(cell, left + CELL * k, y, CELL, HEIGHT)
    if row.note:
        yield _text(row.note, left + CELL * len(row.cells) + 12, y + HEIGHT / 2, fill="#555555")


def _box(cell: Cell, x: float, y: float, width: float, height: float) -> Iterator[str]:
    fill, faint = cell.fill or "url(#hatch)", " opacity='0.35'" if cell.gone else ""
    place = f"x='{x:.1f}' y='{y:.1f}' width='{width}' height='{height}'"
    yield f"<rect {place} fill='{fill}' stroke='#444444'{faint}/>"
    if cell.text:
        colour = "#777777" if cell.gone else "#000000"
        yield _text(cell.text, x + width / 2, y + height / 2, anchor="middle", fill=colour)
    if cell.gone:
        ends = (
            f"x1='{x + 4:.1f}' y1='{y + height - 4:.1f}' x2='{x + width - 4:.1f}' y2='{y + 4:.1f}'"
        )
        yield f"<line {ends} stroke='#BB2222' stroke-width='2'/>"


def _text(text: str, x: float, y: float, anchor: str = "start", fill: str = "#000000") -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' dominant-baseline='central'"
    return f"<text {place} fill='{fill}'>{escape(text)}</text>"
