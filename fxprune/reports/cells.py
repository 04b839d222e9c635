"""What a page of a report is made of, before anyone decides how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from fxprune.layers import Change

_PREFIXES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True)
class Cell:
    """A field of a table.

    Attributes:
        text: what it shows.
        code: whether it is a name, as code is written.
        values: the exact numbers that the text tells.
        bar: for a bar, which parts of its length are full before and after, from 0 to 1.
        changed: whether a plan changed it.
    """

    text: str = ""
    code: bool = False
    values: tuple[float, ...] = ()
    bar: tuple[float, float] | None = None
    changed: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers stand to the right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: what tells it from others of the page.
        columns: at least one.
        rows: a cell for each column.
        summary: of a table that is folded away, the line that opens it; else "".
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    summary: str = ""


@dataclass(frozen=True)
class Paragraph:
    """A text. A warning stands out."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Plot:
    """An image as the text of an `svg` element, and what it shows in a sentence."""

    svg: str
    label: str


Part: TypeAlias = Table | Paragraph | Plot


@dataclass(frozen=True)
class Section:
    """A part of the page with a title."""

    name: str
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Tile:
    """A figure at the top of the page: what it is of, the figure, and where it comes from."""

    title: str
    figure: str
    note: str
    values: tuple[float, ...] = ()
    good: bool | None = None


@dataclass(frozen=True)
class Page:
    """A report, for whoever writes it as HTML or Markdown."""

    title: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]


def text(value: object) -> Cell:
    """A cell with a text."""
    return Cell(str(value))


def code(value: str) -> Cell:
    """A cell with a name."""
    return Cell(value, code=True)


def number(value: float, shown: str = "") -> Cell:
    """A cell with a number, by default with all its digits."""
    return Cell(shown or f"{value:,}", values=(value,))


def shift(change: Change | None, *, short: bool = False) -> Cell:
    """A cell with a number before and after; with one number where both are the same."""
    if change is None:
        return Cell()
    tell = magnitude if short else "{:,}".format
    before, after = tell(change.before), tell(change.after)
    shown = f"{before} → {after}" if change.changed else before
    return Cell(shown, values=(change.before, change.after), changed=change.changed)


def bar(change: Change, largest: int) -> Cell:
    """A bar for a number before and after, beside others of which one is the largest."""
    if not change.before + change.after:
        return Cell()
    longest = max(largest, change.after)
    return Cell(share(change), bar=(change.before / longest, change.after / longest))


def share(change: Change) -> str:
    """Which share is left, as a percentage; empty of nothing."""
    return "" if change.left is None else f"{change.left:.1%}"


def magnitude(value: float) -> str:
    """A number with four digits and a prefix.

    >>> magnitude(1814073344), magnitude(999), magnitude(-12345)
    ('1.814 G', '999', '-12.35 k')
    """
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{value / size:.4g} {prefix}"
    return f"{value:.4g}"


def columns(*titles: str) -> tuple[Column, ...]:
    """Columns by their titles; those that begin with # are of numbers."""
    return tuple(Column(title.removeprefix("#"), title.startswith("#")) for title in titles)
