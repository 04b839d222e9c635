"""Pictures in the DOT language of Graphviz."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from fxprune.dot_text import Look, Markup, attributes, bold, quoted, small, tooltip
from fxprune.drawing.colours import MARK, WHITE, colour, paler
from fxprune.drawing.legends import legend
from fxprune.drawing.marks import ENDS, bordered, explained
from fxprune.drawing.pictures import Picture, PictureEdge, PictureNode
from fxprune.drawing.wording import (
    details,
    flow,
    group_width,
    heading,
    joined,
    weight,
)

_FONT = {"fontname": "Helvetica"}
_LOOKS: dict[str, Look] = {
    "graph": {**_FONT, "fontsize": 11, "labelloc": "t", "ranksep": 0.3, "nodesep": 0.25},
    "node": {**_FONT, "fontsize": 11, "shape": "box", "margin": "0.1,0.05", "style": "filled"},
    "edge": {**_FONT, "fontsize": 9, "arrowsize": 0.6},
}
_LONGEST = 40
"""Characters of a line in a node."""
_MOST_LINES = 8
"""Of what happened at a node; its tooltip has all."""
_FAN = 4
"""From so many edges on that carry the same, a node tells the width instead of its edges."""
_MOST_LABELS = 500
"""With more edges, all nodes do: labels would hide the edges, and take most of the time."""
_CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict"})


def dot_of(picture: Picture) -> str:
    """A picture as the text of a DOT file, the same for the same picture."""
    return "\n".join(_Writer(picture).lines()) + "\n"


@dataclass(frozen=True)
class _Box:
    """A module in whose box several nodes lie, and the boxes in it."""

    path: str
    nodes: list[PictureNode]
    boxes: dict[str, _Box]


class _Writer:
    """Writes one picture."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.pruned = picture.pruned
        self.explained = explained(picture)
        self.bordered = bordered(picture)
        leaving: dict[str, list[str]] = {}
        for edge in picture.edges:
            if edge.values:
                leaving.setdefault(edge.source, []).append(flow(edge, pruned=self.pruned))
        least = _FAN if len(picture.edges) <= _MOST_LABELS else 1
        self.fans = {
            n: "; ".join(dict.fromkeys(f))
            for n, f in leaving.items()
            if len(f) >= least and (len({*f}) == 1 or least == 1)
        }

    def lines(self) -> Iterator[str]:
        """The lines of the file."""
        yield "digraph model {"
        for name, values in _LOOKS.items():
            yield f"  {name}{attributes(values)};"
        yield f"  label={quoted(heading(self.picture))};"
        look = legend(self.picture, hatched=bool(self.explained), bordered=bool(self.bordered))
        yield f"  {quoted('fxprune legend')}{attributes(look)};"
        yield from self.box(self.boxes(), "", "  ")
        yield from map(self.edge, self.picture.edges)
        yield "}"

    def boxes(self) -> _Box:
        """The nodes in the boxes of their modules."""
        root = _Box("", [], {})
        for node in self.picture.nodes:
            box, path = root, ""
            for part in node.parent.split(".") if node.parent else ():
                path = f"{path}.{part}".lstrip(".")
                box = box.boxes.setdefault(path, _Box(path, [], {}))
            box.nodes.append(node)
        return root

    def box(self, box: _Box, shown: str, indent: str) -> Iterator[str]:
        """The lines of a box. One that would hold a single node or box is left out."""
        folds = self.picture.folds.get(box.path, ())
        is_drawn = bool(folds or (box.path and len(box.nodes) + len(box.boxes) > 1))
        if is_drawn:
            kind = self.picture.modules.get(box.path, "")
            title = _below(box.path, shown)
            if folds:
                title += f" … {folds[-1].rpartition('.')[2]}  ({len(folds)} of the same)"
            title += "" if kind in _CONTAINERS else f"  {kind}"
            look: Look = {"label": title.rstrip(), "labeljust": "l", "style": "rounded"}
            look |= {"color": "#999999", "penwidth": 3 if folds else 1}
            yield f"{indent}subgraph {quoted('cluster ' + box.path)} {{"
            shown, indent = box.path, f"{indent}  "
            yield f"{indent}graph{attributes(look)};"
        for node in box.nodes:
            yield f"{indent}{quoted(node.name)}{attributes(self.look(node, shown))};"
        for inner in box.boxes.values():
            yield from self.box(inner, shown, indent)
        if is_drawn:
            yield f"{indent[:-2]}}}"

    def look(self, node: PictureNode, shown: str) -> Look:
        """The attributes of a node."""
        fill = self.fill(node)
        side = 0.3 + 1.4 * sqrt(node.share)
        texts = list(self.texts(node, shown))
        look: Look = {
            "label": Markup("<BR/>".join(texts)),
            "width": round(2 * side, 2),
            "height": round(side, 2),
            "tooltip": tooltip("\n".join(details(node, self.picture))),
            "fillcolor": fill,
        }
        is_end = node.kind in ENDS
        if is_end:
            look["shape"] = "oval"
        elif node.pinned is not None:
            look |= {"style": "striped", "fillcolor": _hatched(fill), "color": "#888888"}
        if node.name in self.bordered:
            look |= {"color": "#AA0000", "penwidth": 2}
        if node.goes:
            look["style"] = "dashed"
        if node.name in self.picture.outside:
            look |= {"style": "dotted", "color": "#999999", "fontcolor": "#777777"}
        if node.name in self.picture.marks:
            look |= {"color": MARK, "penwidth": 5}
        return look

    def texts(self, node: PictureNode, shown: str) -> Iterator[Markup]:
        """The lines in a node."""
        words = joined(node.operators, _LONGEST)
        if node.kind == "op":
            yield bold(words)
            if node.path != shown:
                yield small(_below(node.path, shown))
        else:
            yield bold(_below(node.path, shown) if node.kind == "module" else node.title)
            if words:
                yield small(words)
        if node.parameters:
            yield small(weight(node, pruned=self.pruned))
        for name in node.inner:
            yield small(group_width(self.picture.groups[name], pruned=self.pruned))
        if node.name in self.fans:
            yield small(f"out: {self.fans[node.name]}")
        if node.pinned is not None and node.name in self.explained:
            for line in textwrap.wrap(f"must stay: {node.pinned.what}", _LONGEST):
                yield Markup(f"<I>{small(line)}</I>")
        for line in textwrap.wrap(self.picture.marks.get(node.name, ""), _LONGEST)[:_MOST_LINES]:
            yield bold(line)

    def fill(self, node: PictureNode) -> str:
        """The colour of a node."""
        return colour(self.picture.groups[node.group].colour) if node.group else WHITE

    def edge(self, edge: PictureEdge) -> str:
        """The line of an edge."""
        ends = f"  {quoted(edge.source)} -> {quoted(edge.target)}"
        if not edge.values:
            text = f"{edge.target} reads all that {edge.source} reads"
            return f"{ends}{attributes({'style': 'dashed', 'color': '#888888', 'tooltip': text})};"
        text = flow(edge, pruned=self.pruned)
        look = {"tooltip": f"{edge.source} → {edge.target}: {text}"}
        if edge.source not in self.fans:
            look["label"] = "\n".join(f"  {line}" for line in text.split("\n"))
        return f"{ends}{attributes(look)};"


def _below(path: str, shown: str) -> str:
    """A module's name below that of the box around it."""
    return path.removeprefix(f"{shown}.") if shown else path


def _hatched(fill: str) -> str:
    """Stripes of a colour and a paler one."""
    return ":".join([fill, paler(fill)] * 8)
