"""What notebooks show of an analysis and its groups."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from fxprune.deferred import deferred
from fxprune.notebook_tables import (
    Cell,
    Html,
    bold,
    details,
    diagnostics,
    long_table,
    paragraph,
    table,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group, Member

_LARGEST_PICTURE = 200_000
"""Bytes of SVG: what is displayed is also kept in the notebook's file."""

_SINGLE = "a single channel, which always stays"


def group_html(group: Group) -> str:
    """A group: its size and kind, why it must stay if it must, and its members."""
    if group.pinned is not None:
        state = f"{_size(group)}, must stay: {group.pinned}"
    else:
        state = f"{_size(group)}, can be pruned" if group.prunable else _SINGLE
    head = paragraph(bold(group.name), f": {state}")
    rows = [_member(member) for member in group.members]
    headings = ["parameter", "dim", "size", "positions", "per channel"]
    return whole(head, long_table(headings, rows, "members"))


def _member(member: Member) -> Sequence[Cell]:
    own = sum(map(len, member.positions))
    counts = sorted({len(each) for each in member.positions})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [member.parameter, member.dim, len(member.channels), own, each]


def _size(group: Group) -> str:
    return f"{group.size:,} {group.kind.replace('_', ' ')}"


def graph_html(deps: DependencyGraph) -> str:
    """An analysis: what can be pruned; with a click what must stay, where it is, and a picture."""
    free = [group for group in deps.groups if group.prunable]
    others = [group for group in deps.groups if not group.prunable]
    head = paragraph(
        bold(type(deps.model).__name__),
        f": {len(free)} groups of channels can be pruned, {len(others)} must stay; that reaches"
        f" {deps.total_share} of the parameters",
    )
    headings = ["group", "size", "kind", "axes"]
    rows = [_row(group) for group in free]
    stay = [[*_row(group), group.pinned.what if group.pinned else _SINGLE] for group in others]
    shares: list[list[Cell]] = [[s.module, s.parameters, f"{s.share:.1%}"] for s in deps.shares]
    return whole(
        head,
        long_table(headings, rows, "groups"),
        details(
            f"groups that must stay ({len(others)})",
            long_table([*headings, "reason"], stay, "groups"),
        ),
        details("parameters by module", table(["module", "parameters", "can be pruned"], shares)),
        diagnostics("remarks", deps.diagnostics),
        details("picture", _picture(deps)),
    )


def _row(group: Group) -> list[Cell]:
    return [group.name, group.size, group.kind, len(group.members)]


def _picture(deps: DependencyGraph) -> Html:
    """The model as an image in the page; nothing if it cannot be laid out, or is too large."""
    svg: str | None = deferred("SVG of an analysis")(deps)
    if svg is None or len(svg) > _LARGEST_PICTURE:
        return Html("")
    data = b64encode(svg.encode()).decode()  # in an image nothing of it can run
    return Html(f'<img alt="the graph" src="data:image/svg+xml;base64,{data}">')
