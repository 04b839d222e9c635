"""Figures that took long to measure, kept in a file."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import click

from fxprune.files import write_atomically


class Kept:
    """Figures by name, in a file that is written whenever there is another one.

    Attributes:
        path: of the file; where there is one, its figures are known.
        figures: numbers, or lists of them; None for what cannot be measured.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.figures: dict[str, Any] = {}
        if path.exists():
            self.figures = json.loads(path.read_text(encoding="utf-8"))

    def __contains__(self, name: str) -> bool:
        return name in self.figures

    def put(self, name: str, figure: Any) -> None:
        """Keep a figure, and say it."""
        self.figures[name] = figure
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.figures, indent=1).encode()
        write_atomically(self.path, lambda stream: stream.write(text))
        click.echo(f"{self.path.stem}: {name}: {told(figure)}")

    def take(self, other: Kept, names: Collection[str]) -> None:
        """Keep some figures of another file, where they are known there and not here."""
        for name, figure in other.figures.items():
            if name in names and name not in self:
                self.put(name, figure)


def told(figure: Any) -> str:
    """A figure in words."""
    if isinstance(figure, Sequence):
        return ", ".join(map(told, figure))
    return "none" if figure is None else f"{figure:.2f}"


def name_of(share: float, method: str, what: str) -> str:
    """The name of a figure of a network that a method made at a share of MACs."""
    return f"{share:g}, {method}: {what}"
