"""Tables in Markdown, printed row by row while they are measured."""

from __future__ import annotations

from collections.abc import Container, Iterable


def table(head: str, rows: Iterable[str], *, texts: Container[int] = (0,)) -> list[str]:
    """The lines of a table, after an empty one.

    Args:
        head: its first line.
        rows: the other ones.
        texts: the columns that are texts; all others are numbers, and go to the right.
    """
    columns = range(head.count("|") - 1)
    rule = "".join(f" {'---' if column in texts else '--:'} |" for column in columns)
    lines = ["", head, f"|{rule}"]
    print("\n".join(lines))
    for row in rows:
        lines.append(row)
        print(row, flush=True)
    return lines
