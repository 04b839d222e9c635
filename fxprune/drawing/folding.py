"""Repeated blocks drawn once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from fxprune.drawing.wording import flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fxprune.drawing.pictures import Picture, PictureEdge, PictureNode


def folded(picture: Picture, also: Mapping[str, object] | None = None) -> Picture:
    """The picture with each run of like blocks drawn once, as the first of them.

    Blocks are modules below one parent, such as those of a `ModuleList`. They are a run if

    1. all that is drawn of them is the same, but for the names of groups that one of them has for
       itself alone;
    2. each reads nothing but the one before, in the same way every time, and what that reads from
       outside of the run in the same places;
    3. nothing but the next one reads any of them, but for the last, and the same places of each
       are read.

    Args:
        picture: the picture.
        also: what else is drawn of nodes, by their names.
    """
    while (found := _Finder(picture, also or {}).run()) is not None:
        picture = _without_repeats(picture, *found)
    return picture


class _Finder:
    """Looks for runs of like blocks in a picture.

    A block is the path of a module; of each its nodes are known, and their places in it.
    """

    def __init__(self, picture: Picture, also: Mapping[str, object]) -> None:
        self.picture = picture
        self.also = also
        self.nodes = {node.name: node for node in picture.nodes}
        self.blocks: dict[str, dict[str, int]] = {}
        for node in picture.nodes:
            parts = node.parent.split(".") if node.parent else []
            for depth in range(1, len(parts) + 1):
                block = self.blocks.setdefault(".".join(parts[:depth]), {})
                block[node.name] = len(block)
        self.entering: dict[str, list[PictureEdge]] = {}
        self.leaving: dict[str, list[PictureEdge]] = {}
        for edge in picture.edges:
            self.entering.setdefault(edge.target, []).append(edge)
            self.leaving.setdefault(edge.source, []).append(edge)
        self.uses = Counter(node.group for node in picture.nodes)

    def run(self) -> tuple[list[str], list[list[str]]] | None:
        """The first run, of the outermost blocks that have one: paths, and nodes of each."""
        siblings: dict[str, list[str]] = {}
        for path in self.blocks:
            siblings.setdefault(path.rpartition(".")[0], []).append(path)
        for parent in sorted(siblings, key=lambda path: (bool(path), path.count("."))):
            run: list[str] = []
            for path in siblings[parent]:
                if run and self.continues(run, path):
                    run.append(path)
                elif len(run) > 1:
                    break
                else:
                    run = [path]
            if len(run) > 1:
                return run, [list(self.blocks[path]) for path in run]
        return None

    def continues(self, run: Sequence[str], path: str) -> bool:
        """Whether a block is one more of a run."""
        block, last = self.blocks[path], self.blocks[run[-1]]
        if len(block) != len(last) or self.drawn(run[-1]) != self.drawn(path):
            return False
        if any(e.target not in last and e.target not in block for e in self.edges(last, "leaving")):
            return False
        if self.read(path) != self.read(run[-1]) or self.feeds(path, run):
            return False
        outside = {(e.source, last[e.target]) for e in self.edges(last, "entering")}
        for edge in self.edges(block, "entering"):
            is_known = edge.source in block or edge.source in last
            if not is_known and (edge.source, block[edge.target]) not in outside:
                return False
        step = self.step(run[-1], path)
        return bool(step) and (len(run) < 2 or step == self.step(run[-2], run[-1]))

    def read(self, path: str) -> set[int]:
        """The places of the nodes in a block that others read."""
        block = self.blocks[path]
        edges = self.edges(block, "leaving")
        return {block[e.source] for e in edges if e.target not in block}

    def feeds(self, path: str, earlier: Iterable[str]) -> bool:
        """Whether an earlier block reads a block: their modules are called in turn, again."""
        targets = {edge.target for edge in self.edges(self.blocks[path], "leaving")}
        return any(not targets.isdisjoint(self.blocks[other]) for other in earlier)

    def edges(
        self, block: Iterable[str], side: Literal["entering", "leaving"]
    ) -> list[PictureEdge]:
        """The edges that enter the nodes of a block, or leave them."""
        found = self.entering if side == "entering" else self.leaving
        return [edge for name in block for edge in found.get(name, ())]

    def step(self, before: str, after: str) -> set[tuple[int, int]]:
        """How a block reads the one before it: the places of the nodes in both."""
        first, second = self.blocks[before], self.blocks[after]
        edges = self.edges(second, "entering")
        return {(first[e.source], second[e.target]) for e in edges if e.source in first}

    def drawn(self, path: str) -> list[Any]:
        """All that is drawn of a block, without the names of what is its own."""
        block = self.blocks[path]
        here = Counter(self.nodes[name].group for name in block)
        own = [group for group in here if here[group] == self.uses[group]]
        looks: list[Any] = [self.look(self.nodes[name], path, own) for name in block]
        flows = [
            (block.get(edge.source, -1), block[edge.target], flow(edge, pruned=True))
            for edge in self.edges(block, "entering")
        ]
        return looks + sorted(flows)

    def look(self, node: PictureNode, path: str, own: Sequence[str]) -> tuple[Any, ...]:
        """All that is drawn of a node."""
        group = self.picture.groups.get(node.group)
        kind: Any = (group.kind, group.size, group.width) if group is not None else ()
        if group is not None and group.colour is not None:
            kind = (*kind, own.index(node.group) if node.group in own else node.group)
        inner = [self.picture.groups[name] for name in node.inner]
        return (
            node.name in self.picture.outside,
            self.picture.marks.get(node.name),
            *(node.kind, node.path.removeprefix(path), node.parent.removeprefix(path), node.title),
            *(node.operators, node.parameters, node.parameters_after, node.macs, node.macs_after),
            *(kind, [(g.kind, g.size, g.width) for g in inner], node.goes),
            *(node.pinned and node.pinned.what, len(node.pins), self.also.get(node.name)),
        )


def _without_repeats(
    picture: Picture, paths: Sequence[str], run: Sequence[Sequence[str]]
) -> Picture:
    """The picture with the first block of a run only, which feeds what the last one fed."""
    gone = {name for block in run[1:] for name in block}
    instead = dict(zip(run[-1], run[0], strict=True))
    edges = []
    for edge in picture.edges:
        if edge.target not in gone:
            source = instead.get(edge.source, edge.source)
            if source not in gone:
                edges.append(replace(edge, source=source))
    return replace(
        picture,
        nodes=tuple(node for node in picture.nodes if node.name not in gone),
        edges=tuple(edges),
        folds={**picture.folds, paths[0]: tuple(paths)},
    )
