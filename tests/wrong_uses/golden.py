"""The table as text: the errors that were looked at and accepted, and the page that tells them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.wrong_uses import arguments, commands, inputs, models, plans, registration, results
from tests.wrong_uses.table import CHECKOUT, FOREIGN, error_of

EXPECTED = Path(__file__).with_name("expected.txt")
PAGE = CHECKOUT / "docs" / "correctness.md"
BEGIN, END = "<!-- wrong uses: begin -->", "<!-- wrong uses: end -->"
_PARTS = (arguments, inputs, models, plans, results, registration, commands)
ROWS = {
    f"{area}: {row.name}": row
    for part in _PARTS
    for area, rows in part.ROWS.items()
    for row in rows
}


def actual() -> dict[str, str]:
    """What every wrong use gives today."""
    found = {}
    for name, row in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = error_of(row, Path(folder))
    return found


def accepted() -> dict[str, str]:
    """What is written in the file of accepted errors."""
    entries = EXPECTED.read_text(encoding="utf-8").split("== ")[1:]
    return {name: text.strip() for name, _, text in (e.partition("\n") for e in entries)}


def as_text(errors: dict[str, str]) -> str:
    """The file of accepted errors."""
    return "\n".join(f"== {name}\n{text}\n" for name, text in errors.items())


def as_page(errors: dict[str, str]) -> str:
    """The page with the table in it."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n" + "\n".join(_tables(errors)) + f"\n{END}{after}"


def _tables(errors: dict[str, str]) -> Iterator[str]:
    area = ""
    for name, text in errors.items():
        head, _, use = name.partition(": ")
        if head != area:
            area = head
            yield f"\n### {area}\n\n| what the user does | error |\n| --- | --- |"
        kind, _, message = text.partition(":" if "Outcome" not in text else "Outcome: ")
        yield f"| {_escaped(use)} | {_cell(kind, message)} |"
    yield ""


def _cell(kind: str, message: str) -> str:
    lines = [_escaped(line.strip()) for line in message.strip().splitlines()]
    if kind:
        return f"`{kind}`: " + "<br>".join(lines)
    return f"{lines[0]}: " + "<br>".join(lines[1:])


def _escaped(text: str) -> str:
    text = text.replace(FOREIGN, "...")
    for mark in "\\`*_<>|[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def names_are_unique() -> bool:
    """Whether no row hides another."""
    return len(ROWS) == sum(len(rows) for part in _PARTS for rows in part.ROWS.values())
