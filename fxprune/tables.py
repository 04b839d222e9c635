"""Tables as plain text, one look for all: a rule below the head, numbers to the right."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from fxprune.errors import printable

WIDTH = 100
"""Columns of a text. Names are never cut: one that is longer makes its lines longer."""


@dataclass(frozen=True)
class Page:
    """Tables and sentences below one another. `str` makes a text of it; rich can print it."""

    parts: tuple[RenderableType, ...]

    @classmethod
    def of(cls, *parts: RenderableType | None) -> Page:
        """A page of what is there: None and empty texts are left out.

        Sentences are taken as they are, whatever brackets are in them.
        """
        there = (part for part in parts if part not in (None, ""))
        return cls(tuple(sentence(p) if isinstance(p, str) else p for p in there if p is not None))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield from self.parts

    def __str__(self) -> str:
        wide = Console(file=io.StringIO(), width=10_000, color_system=None)
        least = [wide.measure(part).minimum for part in self.parts]
        buffer = io.StringIO()
        console = Console(
            file=buffer, width=max([WIDTH, *least]), color_system=None, legacy_windows=False
        )
        for part in self.parts:
            console.print(part)
        lines = buffer.getvalue().split("\n")
        return "\n".join(line.rstrip() for line in lines).rstrip("\n")


def sentence(text: str) -> Text:
    """A text as it is, over as many lines as it takes."""
    return Text(printable(text))


def item(text: str, mark: str = "!") -> Table:
    """A sentence with a mark before it; its further lines start below its first word."""
    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row(Text(mark), sentence(text))
    return made


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Sequence[int] = (0,),
    wraps: int | None = None,
    total: Sequence[str] = (),
    dim: Iterable[int] = (),
) -> Table:
    """A table of texts.

    Args:
        columns: the head.
        rows: a cell for each column.
        left: the columns that are no numbers.
        wraps: the column that may take several lines, at its spaces.
        total: a last row below a rule.
        dim: the rows that matter less, by number; a terminal shows them so.
    """
    made = Table(
        box=box.SIMPLE, show_edge=False, pad_edge=True, padding=(0, 1), show_footer=bool(total)
    )
    for number, name in enumerate(columns):
        made.add_column(
            Text(name),
            Text(total[number]) if total else "",
            justify="left" if number in left else "right",
            no_wrap=number != wraps,
            overflow="fold",
        )
    quiet = frozenset(dim)
    for number, row in enumerate(rows):
        cells = [Text(printable(cell).replace("\n", "\\n")) for cell in row]
        made.add_row(*cells, style="dim" if number in quiet else None)
    return made


def arrows(pairs: Iterable[tuple[int, int]]) -> list[str]:
    """Numbers before and after, one below the other.

    >>> arrows([(64, 32), (1024, 512)])
    ['   64 -> 32', '1,024 -> 512']
    """
    told = [(f"{before:,}", f"{after:,}") for before, after in pairs]
    widths = [max(map(len, side)) for side in zip(*told, strict=True)] or [0, 0]
    return [f"{before:>{widths[0]}} -> {after:>{widths[1]}}" for before, after in told]


def share(part: float, whole: float) -> str:
    """A part of a whole in percent, or a dash if there is no whole.

    >>> share(1, 3), share(0, 0)
    ('33.3%', '-')
    """
    return f"{part / whole:.1%}" if whole else "-"


def between(numbers: Iterable[int]) -> str:
    """The least and the greatest of some numbers; one if they are the same.

    >>> between([3, 61, 4]), between([64])
    ('3-61', '64')
    """
    found = list(numbers)
    least, most = min(found), max(found)
    return f"{least:,}" if least == most else f"{least:,}-{most:,}"
