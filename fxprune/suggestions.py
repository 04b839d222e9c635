"""Nearest names, for error messages."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A hint that tells the names most like `name`.

    >>> nearest("conv", ["conv1", "fc"])
    'the nearest names are: conv1'
    """
    names = sorted({*candidates} - {""})
    close = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:5]
    return f"the nearest names are: {', '.join(close)}" if close else "there are none"
