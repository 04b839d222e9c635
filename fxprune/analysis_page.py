"""What printing a dependency graph shows: groups that can be pruned, what must stay, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.remarks import listed, told_once
from fxprune.repeats import folded, patterns
from fxprune.shares import prunable_counts
from fxprune.tables import Page, between, item, table, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group


def analysis_page(deps: DependencyGraph) -> Page:
    """The groups, with repeats folded, what must stay by its reason, and the prunable share."""
    free = [group for group in deps.groups if group.prunable]
    staying = [group for group in deps.groups if not group.prunable]
    pinned = sum(group.pinned is not None for group in staying)
    share = f"prunable share of the parameters: {deps.total_share}"
    return Page.of(
        f"{len(free)} group{'s' * (len(free) != 1)} can be pruned,"
        f" {pinned} {'is' if pinned == 1 else 'are'} pinned",
        *(("", _free_table(deps, free)) if free else ()),
        *(("", _pinned_table(staying)) if staying else ()),
        *("", share),
        _share_table(deps) if len(deps.shares) > 1 else None,
        *map(item, _remarks(deps)),
    )


def listing(deps: DependencyGraph) -> str:
    """Every group with all its members, the pinned ones last, the shares and the diagnostics."""
    free = [group for group in deps.groups if group.pinned is None]
    pinned = [group for group in deps.groups if group.pinned is not None]
    lines = [f"{len(free)} groups, {len(pinned)} pinned"]
    lines += [str(group) for group in free + pinned]
    lines.append(f"prunable share of the parameters: {deps.total_share}")
    if len(deps.shares) > 1:
        lines += [f"    {share.module}: {share}" for share in deps.shares]
    lines += [f"! {diagnostic}" for diagnostic in deps.diagnostics]
    return "\n".join(lines)


def _free_table(deps: DependencyGraph, groups: Sequence[Group]) -> Table:
    """A row for the groups that are alike, with the parameters that lie at their channels."""
    sizes = {name: tuple(p.shape) for name, p in deps.graph_module.named_parameters()}

    def parameters(alike: Sequence[Group]) -> int:
        names = {member.parameter for group in alike for member in group.members}
        there = {name: sizes[name] for name in names if name in sizes}
        return sum(prunable_counts(deps.trace, tuple(alike), there).values())

    rows = []
    for pattern, alike in folded(groups, lambda g: g.name, lambda g: (g.kind, g.size)):
        first = alike[0]
        layers = between(len(_layers(group)) for group in alike)
        cells = (first.kind, f"{first.size:,}", layers, f"{parameters(alike):,}")
        rows.append((str(pattern), times(len(pattern)), *cells))
    total = ("all", f"{len(groups)}", "", f"{sum(group.size for group in groups):,}", "")
    return table(
        ("group", "", "kind", "size", "layers", "parameters"),
        rows,
        left=(0, 2),
        total=(*total, f"{deps.total_share.prunable:,}"),
    )


def _layers(group: Group) -> set[str]:
    """The modules that a group is in."""
    return {member.parameter.rpartition(".")[0] for member in group.members}


def _pinned_table(groups: Iterable[Group]) -> Table:
    """A row for each reason, with the groups that it keeps."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        reason = group.pinned.what if group.pinned is not None else "a single channel always stays"
        found.setdefault(reason, []).append(group)
    rows = []
    for reason, kept in found.items():
        names = listed(map(str, patterns(group.name for group in kept)))
        size = sum(group.size for group in kept)
        rows.append((reason, f"{len(kept)}", f"{size:,}", names))
    return table(
        ("must stay", "groups", "size", "which"),
        rows,
        left=(0, 3),
        fits=(0, 3),
        dim=range(len(rows)),
    )


def _share_table(deps: DependencyGraph) -> Table:
    """How many parameters of each top-level module lie on an axis that can be pruned."""
    rows = [
        (row.module, f"{row.parameters:,}", f"{row.prunable:,}", f"{row.share:.1%}")
        for row in deps.shares
    ]
    return table(("module", "parameters", "prunable", "share"), rows)


def _remarks(deps: DependencyGraph) -> Iterator[str]:
    """The diagnostics; one for those that say the same of several places.

    Pins of single channels, as an attention has some, are told by the table alone: nothing could be
    pruned there anyway.
    """
    pinned = {group.pinned for group in deps.groups}
    telling = {group.pinned for group in deps.groups if group.size > 1}
    return told_once(d for d in deps.diagnostics if d in telling or d not in pinned or d.hint)
