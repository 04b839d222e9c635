"""What notebooks show of a plan, and the plot of its widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.bar_plots import bars
from fxprune.errors import InputError, shown
from fxprune.notebook_tables import (
    Cell,
    Html,
    bar,
    details,
    listed,
    long_table,
    paragraph,
    whole,
)
from fxprune.planning.plan_page import kept_back, whole_width

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from fxprune.planning.plan_data import GroupPlan, Plan


def widths_html(groups: Mapping[str, GroupPlan]) -> Html:
    """The widths of groups before and after, those that change first."""
    changed = {name: group for name, group in groups.items() if group.removed}
    rest = [name for name in groups if name not in changed]
    rows: list[list[Cell]] = [
        [name, g.kind, g.size, g.width, bar(g.width / max(g.size, 1))]
        for name, g in changed.items()
    ]
    same: list[list[Cell]] = [[name, groups[name].kind, groups[name].size] for name in rest]
    return Html(
        long_table(["group", "kind", "before", "after", "left"], rows, "groups")
        + details(f"groups that stay as they are ({len(rest)})", long_table(_KEPT, same, "groups"))
    )


_KEPT = ["group", "kind", "size"]


def plan_html(plan: Plan) -> str:
    """A plan: widths before and after, what is dropped, and how it was made."""
    total, left = whole_width(plan.groups)
    made = [f"{name}: {shown(value)}" for name, value in plan.made.items() if name != "kept"]
    return whole(
        paragraph(f"Plan: {total:,} → {left:,} channels in {len(plan.groups)} groups"),
        paragraph(f"dropped whole: {', '.join(plan.dropped)}") if plan.dropped else Html(""),
        widths_html(plan.groups),
        details("how it was made", listed(made)),
        *(paragraph(f"{name} keeps a channel: {why}") for name, why in kept_back(plan).items()),
    )


def plot_of_widths(
    groups: Mapping[str, GroupPlan], path: str | os.PathLike[str] | None = None
) -> Figure:
    """A figure of the widths of groups before and after; see `Plan.plot`."""
    if not groups:
        raise InputError("there is nothing to plot", why="no group of channels can be pruned")
    total, left = whole_width(groups)
    rows = [(name, group.size, group.width) for name, group in groups.items()]
    return bars(rows, "channels", f"{total:,} → {left:,} channels in {len(rows)} groups", path)
