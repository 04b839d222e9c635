"""Bars before and after; matplotlib is imported where it is used, for it is an extra."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fxprune.errors import InputError, printable
from fxprune.images import check_image, figure_class, write_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

_TALLEST = 80.0
"""Inches."""
_MOST_NUMBERS = 200
"""With more bars than this, the numbers are not written beside them."""
_BEFORE, _AFTER = "#BBBBBB", "#4477AA"


def bars(
    rows: Sequence[tuple[str, int, int]],
    what: str,
    title: str,
    path: str | os.PathLike[str] | None = None,
    *,
    told: Callable[[int], str] = str,
) -> Figure:
    """A figure of numbers before (grey) and after (blue), one bar for each row.

    It is made without pyplot, so no window opens and the user's own figures stay as they are.

    Args:
        rows: name, number before, number after; the first is drawn at the top.
        what: what is counted.
        title: of the figure.
        path: of the image, of the kind that its name ends with, or None.
        told: a number as it is written.

    Raises:
        InputError: matplotlib is not installed, or writes no such images; or there is no row.
        FxPruneError: the file cannot be written.
    """
    if not rows:
        raise InputError("there is nothing to plot", why=f"nothing has {what}")
    target = None if path is None else Path(path)
    if target is not None:
        check_image(target)
    figure = figure_class()(
        figsize=(7.0, min(1.2 + 0.25 * len(rows), _TALLEST)), layout="constrained"
    )
    axes = figure.subplots()
    names, before, after = zip(*rows, strict=True)
    places = range(len(rows))
    axes.barh(places, before, color=_BEFORE, label="before")
    axes.barh(places, after, color=_AFTER, height=0.5, label="after")
    axes.set_yticks(places, [printable(name) for name in names], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(what)
    axes.set_title(printable(title), loc="left", fontsize=10, parse_math=False)
    axes.xaxis.set_major_formatter(lambda number, _: told(round(number)))
    axes.locator_params(axis="x", integer=True)
    axes.margins(x=0.2)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)
    if len(rows) <= _MOST_NUMBERS:
        for place, (_, first, second) in enumerate(rows):
            text = f" {told(first)} → {told(second)}" if first != second else f" {told(first)}"
            axes.text(max(first, second), place, text, va="center", fontsize=7)
    if target is not None:
        write_image(figure, target)
    return figure
