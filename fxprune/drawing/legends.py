"""The legend of a picture: what its colours and lines mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.dot_text import Look, Markup, small
from fxprune.drawing.colours import GREY, PALETTE, WHITE, colour
from fxprune.drawing.wording import group_width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fxprune.drawing.pictures import Picture


def legend(picture: Picture, *, hatched: bool, bordered: bool) -> Look:
    """The attributes of a node with the legend.

    Args:
        picture: the picture.
        hatched: whether a node is hatched.
        bordered: whether a node has a red border.
    """
    rows = [*_groups(picture), (GREY, "a group with one node")]
    rows.append((WHITE, "no channels, or several groups"))
    if hatched:
        rows.append((WHITE, "hatched: must stay"))
    if bordered:
        rows.append((WHITE, "red border: met here what must stay"))
    if any(node.name in picture.marks for node in picture.nodes):
        rows.append((WHITE, "thick red border: the place in question"))
    if any(not edge.values for edge in picture.edges):
        rows.append((WHITE, "dashed edge: reads all that the other node reads"))
    cells = "".join(
        f'<TR><TD BGCOLOR="{fill}" BORDER="1">    </TD><TD ALIGN="LEFT">{small(text)}</TD></TR>'
        for fill, text in rows
    )
    table = f'<TABLE BORDER="0" CELLSPACING="3" CELLPADDING="1">{cells}</TABLE>'
    return {"label": Markup(table), "shape": "plain", "style": "", "tooltip": "legend"}


def _groups(picture: Picture) -> Iterator[tuple[str, str]]:
    """The groups that nodes of the picture are coloured by: as many as there are colours."""
    here = {node.group for node in picture.nodes if node.name not in picture.outside}
    coloured = {g.colour: g for g in picture.groups.values() if g.colour is not None}
    groups = [group for _, group in sorted(coloured.items()) if group.name in here]
    for group in groups[: len(PALETTE)]:
        stays = ", must stay" if group.pinned is not None else ""
        width = group_width(group, pruned=picture.pruned)
        yield colour(group.colour), f"{group.name}: {width}{stays}"
    if len(groups) > len(PALETTE):
        yield WHITE, f"and {len(groups) - len(PALETTE)} more groups"
