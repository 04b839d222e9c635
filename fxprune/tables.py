"""Tables as plain text, one look for all: a rule below the head, numbers to the right."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from fxprune.errors import printable

WIDTH = 100
"""Columns of a text."""
_LEAST = 24
"""Columns that a name gets at least."""
_GAP = 2
_WIDEST = 10_000
_UNITS = ("", "k", "M", "G", "T", "P")


@dataclass(frozen=True)
class Page:
    """Tables and sentences below one another. `str` makes a text of it; rich can print it."""

    parts: tuple[RenderableType, ...]

    @classmethod
    def of(cls, *parts: RenderableType | None) -> Page:
        """A page of what is there: None is left out, and an empty text is an empty line.

        Sentences are taken as they are, whatever brackets are in them.
        """
        there = [sentence(part) if isinstance(part, str) else part for part in parts]
        return cls(tuple(part for part in there if part is not None))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield from self.parts

    def __str__(self) -> str:
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            width=_WIDEST,
            color_system=None,
            legacy_windows=False,
            force_jupyter=False,  # or a notebook would get the text, and the buffer nothing
        )
        for part in self.parts:
            console.print(part, width=max(WIDTH, console.measure(part).minimum))
        return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n")).rstrip("\n")


def sentence(text: str) -> Text:
    """A text as it is, over as many lines as it takes."""
    return Text(printable(text))


def item(content: str | Page, mark: str = "-") -> Table:
    """A sentence or a page with a mark before it; its further lines start below its first word."""
    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row(Text(mark), sentence(content) if isinstance(content, str) else content)
    return made


def entries(told: Mapping[str, str]) -> Table:
    """Names and what is said of each, one below the other."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in told.items():
        made.add_row(Text(f"  {printable(name)}"), sentence(text))
    return made


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Collection[int] = (0,),
    fits: Collection[int] = (0,),
    total: Sequence[str] = (),
    dim: Collection[int] = (),
) -> Table:
    """A table of texts, at most 100 columns wide where its names can be broken to fit.

    Args:
        columns: the head.
        rows: a cell for each column.
        left: the columns that are no numbers, or are aligned as `arrows` are.
        fits: the columns whose cells may take several lines.
        total: a last row below a rule.
        dim: the rows that matter less, by number; a terminal shows them so.
    """
    cells = [[_on_one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, each)) for each in zip(columns, *cells, total or columns, strict=True)]
    limit = _limit(widths, fits)
    made = Table(box=box.SIMPLE, show_edge=False, collapse_padding=True, show_footer=bool(total))
    for number, name in enumerate(columns):
        made.add_column(
            Text(_on_one_line(name)),
            Text(_on_one_line(total[number])) if total else "",
            justify="left" if number in left else "right",
            overflow="fold",
            no_wrap=number not in fits,
            min_width=None if number in fits else widths[number],
        )
    for number, row in enumerate(cells):
        shown = [broken(cell, limit) if k in fits else cell for k, cell in enumerate(row)]
        made.add_row(*map(Text, shown), style="dim" if number in dim else None)
    return made


def _on_one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")


def _limit(widths: Sequence[int], fits: Collection[int]) -> int:
    """The most columns that a cell may have which may be broken, so that the table fits."""
    room = WIDTH - _GAP * len(widths) - sum(w for k, w in enumerate(widths) if k not in fits)
    flexible = [widths[column] for column in fits]
    limit = max(flexible, default=_LEAST)
    while limit > _LEAST and sum(min(width, limit) for width in flexible) > room:
        limit -= 1
    return limit


def broken(text: str, width: int) -> str:
    """A text in lines of at most so many columns: broken at spaces, else before a part of a name.

    >>> print(broken("model.layers.0.self_attn.q_proj[heads]", 26))
    model.layers.0.self_attn
      .q_proj[heads]
    """
    lines = []
    while len(text) > width:
        start = len(text) - len(text.lstrip())
        at = text.rfind(" ", start, width + 1)
        if at <= start:
            at = max(text.rfind(mark, start + 1, width + 1) for mark in ".[")
            at = at if at > start + 1 else width
        lines.append(text[:at].rstrip())
        text = f"  {text[at:].lstrip()}"
    return "\n".join([*lines, text])


def arrows(pairs: Iterable[tuple[str, str] | None]) -> list[str]:
    """What was before and what is after, one below the other; what stays the same once.

    >>> arrows([("64", "32"), ("1,024", "512"), ("3", "3"), None])
    ['   64 ->  32', '1,024 -> 512', '    3       ', '']
    """
    listed = list(pairs)
    changed = [pair for pair in listed if pair is not None and pair[0] != pair[1]]
    first = max((len(pair[0]) for pair in listed if pair is not None), default=0)
    second = max((len(pair[1]) for pair in changed), default=0)

    def cell(pair: tuple[str, str] | None) -> str:
        if pair is None:
            return ""
        before, after = pair
        if before != after:
            return f"{before:>{first}} -> {after:>{second}}"
        return before.rjust(first).ljust(first + second + 4 * bool(changed))

    return [cell(pair) for pair in listed]


def share(part: float, whole: float) -> str:
    """A part of a whole in percent, or a dash if there is no whole.

    >>> share(1, 3), share(0, 0)
    ('33.3%', '-')
    """
    return f"{part / whole:.1%}" if whole else "-"


def times(count: int) -> str:
    """How many rows one stands for; nothing for itself alone.

    >>> times(6), times(1)
    ('x6', '')
    """
    return f"x{count}" if count > 1 else ""


def between(numbers: Iterable[int], separator: str = ",") -> str:
    """The least and the greatest of some numbers; one if they are the same.

    >>> between([3, 61, 4]), between([1024]), between([1024], "")
    ('3-61', '1,024', '1024')
    """
    found = sorted(set(numbers))
    ends = [found[0], found[-1]] if len(found) > 1 else found
    return "-".join(f"{end:{separator}}" for end in ends)


def short(number: int) -> str:
    """A number in three digits and a unit, such as 36.9k; small ones as they are.

    >>> short(9408), short(36864), short(118_013_952), short(999_999)
    ('9,408', '36.9k', '118M', '1.00M')
    """
    if number < 10_000:
        return f"{number:,}"
    unit, value = 0, float(number)
    while value >= 999.5 and unit + 1 < len(_UNITS):
        unit, value = unit + 1, value / 1000
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f}{_UNITS[unit]}"
