"""What stands in a page: an HTML parser that is strict about what fxprune writes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "path", "use", "rect"}


@dataclass
class Field:
    text: str = ""
    values: tuple[float, ...] = ()


@dataclass
class Parsed(HTMLParser):
    """The tables, the texts and the identifiers of a page."""

    tables: dict[str, list[list[Field]]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    tiles: list[Field] = field(default_factory=list)
    text: str = ""
    _open: list[str] = field(default_factory=list)
    _rows: list[list[Field]] = field(default_factory=list)
    _field: Field | None = None

    def __post_init__(self) -> None:
        super().__init__()

    @classmethod
    def of(cls, page: str) -> Parsed:
        parsed = cls()
        parsed.feed(page)
        parsed.close()
        assert parsed._open == []
        return parsed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.attributes += known.items()
        self.tags.add(tag)
        if tag not in _VOID:
            self._open.append(tag)
        if "id" in known:
            self.ids.append(known["id"])
        if tag == "table":
            self._rows = self.tables[known["id"].removeprefix("table-")] = []
        elif tag == "tr" and "tbody" in self._open:
            self._rows.append([])
        elif tag == "section":
            self.sections.append(known["id"])
        values = tuple(map(float, known.get("data-values", "").split()))
        if tag == "td":
            self._field = Field(values=values)
            self._rows[-1].append(self._field)
        elif re.match(r"tile( |$)", known.get("class", "")):
            self._field = Field(values=values)
            self.tiles.append(self._field)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} is closed, which is not the innermost element"
        if tag in ("td", "div"):
            self._field = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._field is not None:
            self._field.text += data

    def texts(self, table: str, column: int) -> list[str]:
        return [row[column].text for row in self.tables[table]]

    def values(self, table: str, column: int) -> list[tuple[float, ...]]:
        return [row[column].values for row in self.tables[table]]
