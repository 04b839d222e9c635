"""What printing a report shows: layers and widths before and after, the cost, and remarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fxprune.layers import Change
from fxprune.planning.plan_page import width_table
from fxprune.repeats import folded
from fxprune.tables import Page, arrows, between, item, share, short, table, times
from fxprune.verification_page import verification_page

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from rich.table import Table

    from fxprune.layers import Layer
    from fxprune.repeats import Pattern
    from fxprune.report import ShrinkReport

_MOST_ROWS = 32
"""Layers in one table, if others can be folded."""
Pair: TypeAlias = "tuple[str, str] | None"
"""What is shown of a number before and after."""
Row: TypeAlias = "tuple[str, list[Layer], Pair, Pair]"
"""A name, the layers, and the widths that they take and return."""


def report_page(report: ShrinkReport, *, full: bool = False) -> Page:
    """The layers and what the other kinds of groups lose, the cost, and the remarks."""
    proof = report.verification
    groups = {
        name: group
        for name, group in report.groups.items()
        if full or not report.layers or (group.kind != "channels" and group.removed)
    }
    return Page.of(
        *((layer_table(report.layers, full=full), "") if report.layers else ()),
        *((width_table(groups, full=full), "") if groups else ()),
        *(cost_table(costs_told(report)), ""),
        *map(item, report.notes(full=full)),
        item("NOT verified" if proof is None else verification_page(proof, full=full)),
    )


def costs_told(report: ShrinkReport) -> dict[str, Change]:
    """Parameters, bytes and MACs before and after."""
    return {
        name: Change(getattr(report.before, name.lower()), getattr(report.after, name.lower()))
        for name in ("parameters", "bytes", "MACs")
    }


def costs_of(layers: Sequence[Layer]) -> dict[str, Change]:
    """Parameters and MACs of all layers before and after."""
    return {
        "parameters": Change.total(layer.parameters for layer in layers),
        "MACs": Change.total(layer.macs for layer in layers),
    }


def cost_table(cost: Mapping[str, Change]) -> Table:
    """Costs before and after."""
    rows = [
        (name, f"{each.before:,}", f"{each.after:,}", share(each.after, each.before))
        for name, each in cost.items()
    ]
    return table(("cost", "before", "after", "left"), rows)


def layer_table(layers: Sequence[Layer], *, full: bool = False) -> Table:
    """What every layer has and does, before and after; repeats are folded unless `full`."""
    rows = list(_rows(layers, full=full))
    names, alike, widths_in, widths_out = zip(*rows, strict=True)
    parameters, macs = (
        arrows(_summed(getattr(layer, what) for layer in found) for found in [*alike, layers])
        for what in ("parameters", "macs")
    )
    columns = [
        names,
        [times(len(found)) for found in alike],
        *([[found[0].kind for found in alike]] if full else []),
        *(arrows(widths_in), arrows(widths_out), parameters, macs),
    ]
    empty = ("",) * (len(columns) - 4)
    return table(
        ("layer", "", *(["kind"] if full else []), "in", "out", "parameters", "MACs"),
        list(zip(*columns, strict=False)),
        left={*range(7)} - {1},
        total=("all", f"{len(layers)}", *empty, parameters[-1], macs[-1]),
        dim=[number for number, found in enumerate(alike) if not any(x.changed for x in found)],
    )


def _rows(layers: Sequence[Layer], *, full: bool) -> Iterator[Row]:
    """The rows: those of norms, which only follow the others, are one for each kind."""
    norms: dict[str, list[Layer]] = {}
    others = []
    for layer in layers:
        if _is_norm(layer) and not full:
            norms.setdefault(layer.kind, []).append(layer)
        else:
            others.append(layer)
    for pattern, alike in _folded(others, full=full):
        name = f"{pattern} (dropped)" if alike[0].dropped else str(pattern)
        widths = [[getattr(each, side) for each in alike] for side in ("width_in", "width_out")]
        yield name, alike, _range(widths[0]), _range(widths[1])
    for kind, alike in norms.items():
        yield kind, alike, None, None


def _folded(layers: Sequence[Layer], *, full: bool) -> list[tuple[Pattern, list[Layer]]]:
    """Layers that are alike in one row.

    Those are alike of which all numbers are the same; if that makes too many rows for a screen,
    those that return as many channels, whatever they take, as in a DenseNet.
    """

    def same(layer: Layer) -> Hashable:
        changes = (layer.width_in, layer.width_out, layer.parameters, layer.macs)
        return layer.kind, changes, layer.dropped, layer.name if full else ""

    def similar(layer: Layer) -> Hashable:
        return layer.kind, layer.width_in is None, layer.width_out, layer.dropped

    rows = folded(layers, lambda layer: layer.name, same)
    if full or len(rows) <= _MOST_ROWS:
        return rows
    return folded(layers, lambda layer: layer.name, similar)


def _is_norm(layer: Layer) -> bool:
    return "Norm" in layer.kind and not layer.macs.before and not layer.dropped


def _range(changes: Sequence[Change | None]) -> Pair:
    """Widths before and after; the least and the greatest if they differ."""
    there = [change for change in changes if change is not None]
    if not there:
        return None
    return (
        between((change.before for change in there), ""),
        between((change.after for change in there), ""),
    )


def _summed(changes: Iterable[Change]) -> Pair:
    """A sum before and after in short; None for nothing."""
    whole = Change.total(changes)
    return (short(whole.before), short(whole.after)) if whole.before or whole.after else None
