"""All models of the sweep, library by library."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from sweeps.entry import SweepModel

LIBRARIES = ("torchvision", "timm", "transformers")


def catalogue(library: str) -> dict[str, SweepModel]:
    """The models of a library by key, in the order of the document."""
    entries: Iterable[SweepModel] = importlib.import_module(f"sweeps.{library}_models").entries()
    table: dict[str, SweepModel] = {}
    for entry in entries:
        if entry.key in table:
            raise ValueError(f"two models of the sweep are called {entry.key!r}; rename one")
        table[entry.key] = entry
    return table


def matches(key: str, patterns: Sequence[str]) -> bool:
    """Whether a key, or its last part, matches one of the patterns (or there are none)."""
    names = key, key.rpartition("/")[2]
    return not patterns or any(fnmatchcase(n, pattern) for n in names for pattern in patterns)
