"""A page as Markdown of GitHub's flavour, for a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from fxprune.errors import printable
from fxprune.reports.cells import Cell, Paragraph, Table

if TYPE_CHECKING:
    from fxprune.reports.cells import Column, Page, Section

LARGEST = 65_535
"""A comment on GitHub takes fewer than 65,536 characters; bytes are counted here, to be safe."""
_BLOCKS = 10
_MARKUP = re.compile(r"[\\`*_\[\]|~$]")
_LINKED = re.compile(r"@|#|(?<=:)//|(?<=www)\.")
"""What GitHub makes links and mentions of, which a comment breaks."""
_FOLDED = {
    "verification": "all checks",
    "origin": "versions, inputs, plan",
    "made": "options of the plan",
}
"""Tables that are folded away here only, and the line that opens them."""


@dataclass(frozen=True)
class _Limits:
    """How much of a page is written: rows of a table, characters of a field."""

    rows: int
    characters: int


_STEPS = (
    *(_Limits(3000, 2000), _Limits(1000, 1000), _Limits(300, 400), _Limits(150, 300)),
    *(_Limits(80, 200), _Limits(40, 200), _Limits(20, 120), _Limits(8, 80), _Limits(3, 40)),
    _Limits(0, 20),
)


def markdown_of(page: Page) -> str:
    """The page as Markdown, always of fewer than 65,536 characters; the same page, the same text.

    If it would be longer, tables are cut, and a sentence below them says so.
    """
    tried = (_joined(_lines(page, limits)) for limits in _STEPS)
    return next((text for text in tried if text is not None), "")


def _joined(lines: Iterator[str]) -> str | None:
    """The lines as one text; None as soon as they are too long."""
    found = []
    size = 0
    for line in lines:
        size += len(line.encode()) + 1
        if size > LARGEST:
            return None
        found.append(line)
    return "\n".join(found) + "\n"


def _lines(page: Page, limits: _Limits) -> Iterator[str]:
    yield f"## {_text(page.title, limits)}\n"
    for tile in page.tiles:
        mark = {True: "✅ ", False: "❌ ", None: ""}[tile.good]
        figures = f"{mark}**{_text(tile.figure, limits)}** ({_text(tile.note, limits)})"
        yield f"- {_text(tile.title, limits)}: {figures}"
    yield ""
    for section in page.sections:
        yield from _section(section, limits)


def _section(section: Section, limits: _Limits) -> Iterator[str]:
    yield f"### {_text(section.title, limits)}\n"
    for part in section.parts:
        if isinstance(part, Paragraph):
            told = _text(part.text, limits)
            yield f"{f'**{told}**' if part.warning else told}\n"
        elif isinstance(part, Table):
            yield from _table(part, limits)


def _table(table: Table, limits: _Limits) -> Iterator[str]:
    summary = table.summary or _FOLDED.get(table.name, "")
    if summary:  # within an HTML element there is no Markdown
        yield f"<details><summary>{escape(_clipped(summary, limits))}</summary>\n"
    yield from _rows(table, limits)
    if summary:
        yield "</details>\n"


def _rows(table: Table, limits: _Limits) -> Iterator[str]:
    shown = table.rows[: limits.rows]
    if shown:
        yield _line([_text(column.title, limits) for column in table.columns])
        yield _line(["--:" if column.numeric else "---" for column in table.columns])
        for row in shown:
            yield _line([_field(c, at, limits) for c, at in zip(row, table.columns, strict=True)])
        yield ""
    left = len(table.rows) - len(shown)
    if left:
        yield (
            f"*{left:,} of {len(table.rows):,} rows are left out here, because a comment holds at"
            f" most {LARGEST:,} characters.*\n"
        )


def _line(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _field(cell: Cell, column: Column, limits: _Limits) -> str:
    if cell.bar is not None:
        return f"{_blocks(cell)} {cell.text}"
    told = _code(cell.text, limits) if cell.code else _text(cell.text, limits)
    return f"**{told}**" if cell.changed and told and not cell.code else told


def _blocks(cell: Cell) -> str:
    """A bar of the share that is left."""
    before, after = cell.bar or (0.0, 0.0)
    full = min(_BLOCKS, int(_BLOCKS * after / before + 0.5)) if before else 0
    return "█" * full + "░" * (_BLOCKS - full)


def _clipped(text: str, limits: _Limits) -> str:
    most = limits.characters
    shown = " ".join(printable(text[: most + 1]).split())
    return shown if len(text) <= most and len(shown) <= most else f"{shown[: most - 1]}…"


def _text(text: str, limits: _Limits) -> str:
    """A text in which nothing is markup, a mention or a link."""
    found = escape(_clipped(text, limits), quote=False)
    found = _MARKUP.sub(lambda match: f"\\{match[0]}", found)
    return _LINKED.sub(lambda match: f"<!-- -->{match[0]}", found)


def _code(text: str, limits: _Limits) -> str:
    """A name as code; one with backticks or pipes as an element, since a table would cut these."""
    found = _clipped(text, limits)
    if not found:
        return ""
    if not re.search(r"[`|\\]", found):
        return f"`{found}`"
    entities = (f"&#{ord(c)};" if not (c.isalnum() or c in " .,:-") else c for c in found)
    return f"<code>{''.join(entities)}</code>"
