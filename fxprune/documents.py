"""Strict JSON documents from anyone, read with bounds on all that could fill the memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fxprune.errors import FxPruneError, first_line, shown
from fxprune.files import read_text

T = TypeVar("T")

_MOST_LISTS = 1 << 20
_DEEPEST = 64


@dataclass(frozen=True)
class DocumentKind:
    """A kind of document: what its text must hold, and how its faults are told.

    Attributes:
        name: of the document, in messages.
        version: the only one that is read.
        keys: of the outermost object.
        optional: those that may be missing.
        error: what is raised.
        again: how a document is written.
        largest: how many characters are read at most.
    """

    name: str
    version: int
    keys: tuple[str, ...]
    optional: tuple[str, ...]
    error: type[FxPruneError]
    again: str
    largest: int

    @property
    def format(self) -> str:
        """What the document says that it is."""
        return f"fxprune {self.name}"

    def load(self, path: str | os.PathLike[str], parse: Callable[[str], T], writers: str) -> T:
        """What the text of a file means; a fault in it is told with the file's name.

        Args:
            path: of the file.
            parse: from the text to its meaning; raises `error`.
            writers: what writes such files, in messages.
        """
        try:
            text = read_text(Path(path), self.largest)
        except (OSError, ValueError) as error:
            raise self.error(
                f"the {self.name} {os.fspath(path)} cannot be read: {first_line(error)}",
                hint=f"pass a file that {writers} wrote",
            ) from error
        try:
            return parse(text)
        except self.error as error:
            raise self.error(
                error.what, where=os.fspath(path), why=error.why, hint=error.hint
            ) from error

    def document(self, text: str) -> dict[str, Any]:
        """The JSON object in a text: of this format and version, with its keys."""
        document = self.value(text)
        if not isinstance(document, dict) or document.get("format") != self.format:
            raise self.error(f'not a {self.name}: the text has no "format": "{self.format}"')
        version = document.get("version")
        if type(version) is not int or version != self.version:
            raise self.error(
                f"{self.name} version {shown(version)} is not {self.version}",
                hint=f"make the {self.name} again with this version of fxprune",
            )
        return self.with_keys(document, self.keys, self.optional)

    def value(self, text: str) -> Any:
        """The value in a text of strict JSON, of whatever format."""
        lists = text.count("[") + text.count("{")
        if len(text) > self.largest or lists > _MOST_LISTS:
            raise self.error(
                f"a {self.name} is too large: {len(text):,} characters with {lists:,} lists and"
                " objects",
                why=f"at most {self.largest:,} and {_MOST_LISTS:,} are read",
            )
        try:
            document = json.loads(
                text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite
            )
        except (ValueError, RecursionError) as error:
            what = f"a {self.name} is not valid JSON: {first_line(error)}"
            raise self.error(what, hint=self.again) from error
        if _is_deep(document):
            what = f"a {self.name} is not valid: it is nested more than {_DEEPEST} deep"
            raise self.error(what, hint=self.again)
        return document

    def with_keys(
        self, value: Any, keys: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """An object that has exactly these keys, and perhaps optional ones."""
        content = self.mapping(value)
        for key in keys:
            if key not in content:
                what = f"a {self.name} is malformed: {key!r} is missing"
                raise self.error(what, hint=self.again)
        for key in content:
            if key not in (*keys, *optional):
                raise self.error(
                    f"a {self.name} is malformed: {shown(key)} is not known",
                    why=f"known are {', '.join((*keys, *optional))}",
                    hint=self.again,
                )
        return content

    def malformed(self, value: Any, wanted: str) -> FxPruneError:
        """The error for a value of another kind."""
        what = f"a {self.name} is malformed: {shown(value)} is not {wanted}"
        return self.error(what, hint=self.again)

    def mapping(self, value: Any) -> dict[str, Any]:
        """An object."""
        if not isinstance(value, dict):
            raise self.malformed(value, "an object")
        return value

    def text_in(self, value: Any) -> str:
        """A string."""
        if not isinstance(value, str):
            raise self.malformed(value, "a string")
        return value

    def integer(self, value: Any) -> int:
        """An integer that fits into 64 bits."""
        if not isinstance(value, int) or isinstance(value, bool) or not -1 << 63 <= value < 1 << 63:
            raise self.malformed(value, "an integer of 64 bits")
        return value

    def number(self, value: Any) -> float:
        """A number."""
        return value if isinstance(value, float) else float(self.integer(value))

    def sequence(self, value: Any) -> list[Any]:
        """A list."""
        if not isinstance(value, list):
            raise self.malformed(value, "a list")
        return value

    def integers(self, value: Any) -> tuple[int, ...]:
        """A list of positions or sizes."""
        return tuple(map(self.integer, self.sequence(value)))


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {shown(key)} occurs twice in one object")
        result[key] = value
    return result


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:60]} is too large")
    return value


def _is_deep(value: Any) -> bool:
    """Whether a value is nested too deep to be read by recursion."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for parent in level
            if isinstance(parent, (dict, list))
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, (dict, list))
        ]
    return bool(level)


def compact_lists(text: str) -> str:
    """JSON with lists on one line each, so that a document can be read and diffed."""
    lines: list[str] = []
    joining = False
    for line in text.split("\n"):
        stripped = line.strip()
        if joining:
            joining = stripped not in ("]", "],")
            lines[-1] += stripped + (" " if joining and stripped.endswith(",") else "")
        elif stripped.endswith("[") and not stripped.startswith(("{", '"inputs"')):
            lines.append(line)
            joining = True
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"
