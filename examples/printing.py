"""Tables and text of the examples, the same wherever they are printed."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 100


def table(title: str, *columns: str, left: int = 1) -> Table:
    """An empty table, of which the first `left` columns are aligned to the left."""
    made = Table(title=title, title_justify="left", box=box.ASCII2)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number < left else "right")
    return made


def show(*parts: Table | str) -> None:
    """Print tables and text without colours, each with an empty line before it."""
    console = Console(width=WIDTH, color_system=None)
    with console.capture() as capture:
        for part in parts:
            console.print()
            console.print(part, markup=False, highlight=False)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))
