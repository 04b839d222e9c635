"""What printing a plan shows: the width of every group before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fxprune.errors import shown
from fxprune.repeats import folded
from fxprune.tables import Page, arrows, item, share, table, times

if TYPE_CHECKING:
    from collections.abc import Hashable

    from rich.table import Table

    from fxprune.planning.plan_data import GroupPlan, Plan

_TOLD = ("ratio", "ratios", "threshold", "target", "reached", "by", "scope", "criterion")
"""What is said of how a plan was made."""
_MOST_ENTRIES = 4


def plan_page(plan: Plan, *, full: bool = False) -> Page:
    """The widths, with repeats folded unless `full`, and how the plan was made."""
    total, left = whole_width(plan.groups)
    return Page.of(
        f"Plan: {total:,} -> {left:,} channels in {len(plan.groups)} groups",
        _told(plan.made),
        *(("", width_table(plan.groups, full=full)) if plan.groups else ()),
        item(f"dropped whole: {', '.join(plan.dropped)}") if plan.dropped else None,
        *(item(f"{name} keeps a channel: {why}") for name, why in kept_back(plan).items()),
    )


def whole_width(groups: Mapping[str, GroupPlan]) -> tuple[int, int]:
    """The channels of all groups before and after."""
    return sum(g.size for g in groups.values()), sum(g.width for g in groups.values())


def kept_back(plan: Plan) -> Mapping[str, Any]:
    """The groups that keep a channel which was to go, and why."""
    kept = plan.made.get("kept")  # in a file, that may be anything
    return kept if isinstance(kept, Mapping) else {}


def width_table(groups: Mapping[str, GroupPlan], *, full: bool = False) -> Table:
    """The width of every group before and after; those that are alike in one row unless `full`."""

    def alike(entry: tuple[str, GroupPlan]) -> Hashable:
        name, group = entry
        return group.kind, group.size, group.width, name if full else ""

    rows = folded(groups.items(), lambda entry: entry[0], alike)
    shown_groups = [entries[0][1] for _, entries in rows]
    sizes = [(group.size, group.width) for group in shown_groups]
    whole = whole_width(groups)
    widths = arrows((f"{before:,}", f"{after:,}") for before, after in [*sizes, whole])
    return table(
        ("group", "", "kind", "width", "left"),
        [
            (str(pattern), times(len(pattern)), group.kind, width, share(group.width, group.size))
            for (pattern, _), group, width in zip(rows, shown_groups, widths[:-1], strict=True)
        ],
        left=(0, 2, 3),
        total=("all", f"{len(groups)}", "", widths[-1], share(whole[1], whole[0])),
        dim=[number for number, (before, after) in enumerate(sizes) if before == after],
    )


def _told(made: Mapping[str, Any]) -> str | None:
    """How a plan was made, as far as it fits a line."""
    parts = [f"{name} {_value(made[name])}" for name in _TOLD if made.get(name)]
    return f"made with {', '.join(parts)}" if parts else None


def _value(value: Any) -> str:
    if isinstance(value, str):
        return shown(value)[1:-1]
    if isinstance(value, Mapping) and len(value) <= _MOST_ENTRIES:
        return ", ".join(f"{shown(key)[1:-1]}={_number(each)}" for key, each in value.items())
    return _number(value)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else shown(value)
