"""The plot of a sensitivity; matplotlib is imported where it is used, for it is an extra."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fxprune.errors import InputError, printable
from fxprune.images import check_image, figure_class, write_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_RATIOS = 200
"""No more columns than this are drawn, or written into a table."""
_MOST_NUMBERS = 400
"""With more cells than this, the drops are not written into them."""


def heat_map(
    drops: Mapping[str, Mapping[float, float]],
    ratios: Sequence[float],
    title: str,
    path: Path | None = None,
) -> Figure:
    """A figure of drops by group and ratio, written to a file if there is a path.

    It is made without pyplot, so no window opens and the user's own figures stay as they are.

    Args:
        drops: group name -> ratio -> drop; what is missing or infinite is grey.
        ratios: the columns.
        title: what the numbers are.
        path: of the image.

    Raises:
        InputError: matplotlib is not installed, or writes no such images; or there are no drops, or
            too many.
        FxPruneError: the file cannot be written.
    """
    if len(ratios) > MOST_RATIOS:
        raise InputError(
            f"there are {len(ratios):,} ratios", why=f"at most {MOST_RATIOS} columns are drawn"
        )
    if not ratios:
        raise InputError(
            "there is nothing to plot: no group was measured", hint="let a run finish some points"
        )
    if path is not None:
        check_image(path)
    table = np.array([[row.get(ratio, np.nan) for ratio in ratios] for row in drops.values()])
    size = (3.5 + 0.75 * len(ratios), 1.5 + min(0.3 * len(drops), 60.0))
    figure = figure_class()(figsize=size, layout="constrained")
    axes = figure.subplots()
    shown = np.ma.masked_invalid(table)
    low, high = min(0.0, float(shown.min())), max(0.0, float(shown.max()))
    if not shown.count() or low == high:
        low, high = 0.0, 1.0
    axes.set_facecolor("lightgrey")
    image = axes.imshow(shown, cmap="magma_r", vmin=low, vmax=high, aspect="auto")
    figure.colorbar(image, ax=axes)
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axes.set_yticks(range(len(drops)), [*map(printable, drops)], parse_math=False)
    axes.set_xlabel("ratio of the group's channels that was removed")
    if table.size <= _MOST_NUMBERS:
        _write_numbers(axes, table, (low + high) / 2)
    if path is not None:
        write_image(figure, path)
    return figure


def _write_numbers(
    axes: Axes, table: np.ndarray[tuple[int, ...], np.dtype[np.float64]], middle: float
) -> None:
    """The drop in every cell that has one."""
    for (row, column), drop in np.ndenumerate(table):
        if math.isnan(drop):
            continue
        text = f"{drop:.3g}" if math.isfinite(drop) else "not finite"
        is_dark = math.isfinite(drop) and drop > middle
        colour = "white" if is_dark else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
