"""What printing a sensitivity shows: the value at each ratio, group by group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.planning.sensitivity_plots import MOST_RATIOS
from fxprune.repeats import folded
from fxprune.tables import Page, item, table, times

if TYPE_CHECKING:
    from collections.abc import Hashable

    from fxprune.planning.sensitivity_data import Sensitivity

_MOST_SHOWN = 9
"""Ratios that fit a line."""


def sensitivity_page(found: Sensitivity, *, full: bool = False) -> Page:
    """The baseline, a row for each group, and how many ratios are left out."""
    better = "higher" if found.mode == "max" else "lower"
    head = f"Sensitivity: {found.baseline:.4g} with all channels ({better} is better)"
    ratios = found.ratios[: MOST_RATIOS if full else _MOST_SHOWN]

    def shown(name: str) -> Hashable:
        return tuple(cells[name]), name if full else ""

    cells: dict[str, list[str]] = {}
    for name, curve in found.curves.items():
        known = {point.ratio: _told(point.value) for point in curve.points}
        values = [known.get(ratio, "") for ratio in ratios]
        cells[name] = [curve.kind, f"{curve.size:,}", *values]
    rows = [
        (str(pattern), times(len(pattern)), *cells[alike[0]])
        for pattern, alike in folded(cells, str, shown)
    ]
    more = len(found.ratios) - len(ratios)
    return Page.of(
        head,
        "",
        table(("group", "", "kind", "size", *(f"{r:g}" for r in ratios)), rows, left=(0, 2)),
        item(f"and {more:,} ratios more") if more else None,
    )


def _told(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
