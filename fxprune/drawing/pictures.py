"""A picture of a model: what is drawn, before anyone decides how.

DOT is written from it, and so can other formats be. It holds plain values only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from fxprune.bar_plots import bars
from fxprune.deferred import deferred
from fxprune.drawing.wording import count
from fxprune.errors import Diagnostic, InputError, shown
from fxprune.suggestions import nearest

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

Level: TypeAlias = Literal["module", "op"]
Cost: TypeAlias = Literal["macs", "parameters"]
NodeKind: TypeAlias = Literal["input", "output", "module", "op"]


@dataclass(frozen=True)
class Value:
    """A tensor that flows along an edge.

    Attributes:
        before: its shape.
        after: its shape after the plan; the same without one.
        dims: the axes that carry channels worth showing: those of groups that can be pruned, or if
            there are none, those of pinned ones.
        groups: for each of `dims` the names of the groups on it.
        group: the group that it is coloured by: one that has a channel at every position of an
            axis; "" if there is none, as after a concat.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    dims: tuple[int, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    group: str = ""

    @property
    def widths_before(self) -> tuple[int, ...]:
        """The sizes of the axes that carry channels; without such axes, the whole shape."""
        return tuple(self.before[dim] for dim in self.dims) or self.before

    @property
    def widths_after(self) -> tuple[int, ...]:
        """The same after the plan."""
        return tuple(self.after[dim] for dim in self.dims) or self.after


@dataclass(frozen=True)
class PictureNode:
    """A box of the picture: one operator, or several of a module.

    Attributes:
        name: of the node of the captured graph that it begins with; no two nodes share one.
        kind: "input", "output", "module" (it has parameters or calls a module) or "op".
        path: of the module that it stands for, or whose forward has its operators.
        paths: of all modules that its operators lie in.
        parent: path of the module in whose box it lies.
        title: its name below `parent`.
        operators: what it computes, in short words.
        ops: the nodes of the captured graph in it.
        source: the user's source line of the first of them.
        parameters: number of parameters that it is the first to read.
        parameters_after: the same after the plan.
        macs: multiply-accumulate operations on the example inputs.
        macs_after: the same after the plan.
        share: its part of all parameters of the model, from 0 to 1.
        groups: names of all groups that its parameters or its outcome carry.
        group: the group of its outcome, which it is coloured by; "" if there are several, or none.
            If the outcome carries no channels, it is that of the last operator inside that does.
        inner: those of `groups` that neither its inputs nor its outputs show, such as the heads of
            an attention that is one node.
        pinned: why the channels of its outcome must stay; None if some can go, or it has none.
        pins: names of the groups whose channels met here what must stay.
        goes: whether nothing is left of it after the plan.
    """

    name: str
    kind: NodeKind
    path: str
    paths: tuple[str, ...]
    parent: str
    title: str
    operators: tuple[str, ...]
    ops: tuple[str, ...]
    source: str = ""
    parameters: int = 0
    parameters_after: int = 0
    macs: int = 0
    macs_after: int = 0
    share: float = 0.0
    groups: tuple[str, ...] = ()
    group: str = ""
    inner: tuple[str, ...] = ()
    pinned: Diagnostic | None = None
    pins: tuple[str, ...] = ()
    goes: bool = False


@dataclass(frozen=True)
class PictureEdge:
    """Data that flows from one node to another, by their names.

    An edge without values says that the target reads all that the source reads (`sharing.py`).
    """

    source: str
    target: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class PictureGroup:
    """A group of channels, as `Group`, with what the plan does to it and where it is drawn.

    Attributes:
        name: its name.
        kind: "channels", "heads" ...
        size: number of channels.
        width: how many of them the plan keeps.
        pinned: why none can be removed, or None.
        pinned_at: the node of the captured graph where its channels met what must stay, or "".
        members: the parameter axes that carry it, such as "conv1.weight[0]".
        nodes: names of the nodes that are coloured by it.
        colour: the number of its colour, or None if it is coloured by none: it has one node only.
    """

    name: str
    kind: str
    size: int
    width: int
    pinned: Diagnostic | None
    pinned_at: str
    members: tuple[str, ...]
    nodes: tuple[str, ...]
    colour: int | None


@dataclass(frozen=True)
class Picture:
    """What `draw` draws.

    Attributes:
        level: "module", or "op" if every operator is a node.
        nodes: in the order of the captured graph.
        edges: in the order of their targets.
        groups: all groups of the model, by name.
        modules: path -> class name of every module that holds nodes; "" is the model.
        pruned: whether it shows what a plan does.
        dropped: the blocks that the plan drops.
        parameters: of the whole model, before (with the blocks that are dropped) and after.
        macs: the same of its work.
        outside: names of nodes that are only there to show where a part of a picture is cut off.
        folds: path of a block -> paths of all blocks that it stands for, itself first.
        marks: name of a node that the picture is about -> what happened there.
    """

    level: Level
    nodes: tuple[PictureNode, ...]
    edges: tuple[PictureEdge, ...]
    groups: Mapping[str, PictureGroup]
    modules: Mapping[str, str]
    pruned: bool = False
    dropped: tuple[str, ...] = ()
    parameters: tuple[int, int] = (0, 0)
    macs: tuple[int, int] = (0, 0)
    outside: frozenset[str] = frozenset()
    folds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        name, nodes, edges = self.modules.get("", ""), len(self.nodes), len(self.edges)
        return f"<Picture of {name}: {nodes} nodes, {edges} edges>"

    def _repr_svg_(self) -> str | None:
        found: str | None = deferred("SVG of a picture")(self)
        return found

    def plot(self, path: str | os.PathLike[str] | None = None, *, what: Cost = "macs") -> Figure:
        """The cost of each node before and after the plan, as bars in the order of the graph.

        Args:
            path: where to write it, as an image of the kind that the name ends with. No window is
                opened.
            what: "macs" or "parameters". Nodes that have none are left out.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            InputError: matplotlib is not installed, or writes no such images; or `what` is neither.
            FxPruneError: the file cannot be written.
        """
        if what not in get_args(Cost):
            raise InputError(f"what is {shown(what)}", hint='take "macs" or "parameters"')
        rows = [
            (node.path or node.name, getattr(node, what), getattr(node, f"{what}_after"))
            for node in self.nodes
            if getattr(node, what) and node.name not in self.outside
        ]
        name = what.replace("macs", "MACs")
        return bars(rows, name, f"{name} of {self.modules.get('', '')}", path, told=count)

    @cached_property
    def neighbours(self) -> dict[str, set[str]]:
        """For each node the nodes before and after it."""
        found: dict[str, set[str]] = {node.name: set() for node in self.nodes}
        for edge in self.edges:
            found[edge.source].add(edge.target)
            found[edge.target].add(edge.source)
        return found

    def around(self, name: str, hops: int = 2) -> Picture:
        """The part of the picture that is at most so many edges away from a module or node.

        Raises:
            InputError: nothing has that name.
        """
        found = self.called(name)
        if not found:
            known = [x for n in self.nodes for x in (n.parent, *n.paths, *n.ops) if x]
            raise InputError(
                f"the picture has no module or node {name!r}", hint=nearest(name, known)
            )
        return self.near(found, hops)

    def called(self, name: str) -> list[str]:
        """The nodes that a module, or a node of the captured graph, is drawn as; maybe none."""
        return [
            node.name
            for node in self.nodes
            if name in node.ops or any(f"{path}.".startswith(f"{name}.") for path in node.paths)
        ]

    def near(self, names: Iterable[str], hops: int) -> Picture:
        """The part of the picture that is at most so many edges away from some nodes."""
        found = ring = set(names)
        for _ in range(hops):
            ring = {other for each in ring for other in self.neighbours[each]} - found
            found = found | ring
        return self.part(found)

    def of_group(self, name: str) -> Picture:
        """The part of the picture that carries a group.

        Raises:
            InputError: there is no such group, or no node carries it.
        """
        if name not in self.groups:
            raise InputError(f"no group is named {name!r}", hint=nearest(name, list(self.groups)))
        found = {node.name for node in self.nodes if name in node.groups}
        if not found:
            raise InputError(
                f"no node of the picture carries the group {name}",
                hint="draw the whole model, or look at another group",
            )
        return self.part(found)

    def part(self, names: Iterable[str]) -> Picture:
        """Some of the nodes, and those beside them, which are marked as outside."""
        inside = set(names) - self.outside
        edges = tuple(e for e in self.edges if e.source in inside or e.target in inside)
        shown = inside.union(*((e.source, e.target) for e in edges))
        return replace(
            self,
            nodes=tuple(node for node in self.nodes if node.name in shown),
            edges=edges,
            outside=frozenset(shown - inside),
        )
