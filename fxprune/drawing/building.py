"""From an analysis, and a plan, to a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.drawing.condensing import ENDS, Condenser, Part, flows
from fxprune.drawing.naming import class_name, operator_name, operators
from fxprune.drawing.pictures import (
    Level,
    NodeKind,
    Picture,
    PictureEdge,
    PictureGroup,
    PictureNode,
    Value,
)
from fxprune.drawing.values import Values
from fxprune.drawing.weights import Weights
from fxprune.pin_places import meeting_place
from fxprune.rules.place import module_path, source_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.errors import Diagnostic
    from fxprune.groups import Group
    from fxprune.planning import Plan

_INSIDE = ("module", "op")


def picture_of(deps: DependencyGraph, plan: Plan | None = None, level: Level = "module") -> Picture:
    """The picture of an analysis, and of what a plan does.

    Raises:
        PlanError: the plan is for another model.
    """
    return Builder(deps, plan, level).picture()


class Builder:
    """Reads everything that a picture shows off an analysis and a layout."""

    def __init__(self, deps: DependencyGraph, plan: Plan | None, level: Level) -> None:
        self.deps = deps
        self.plan = plan
        self.level: Level = level
        self.layout = layout = None if plan is None else plan.layout(deps)
        self.condenser = Condenser(deps, level)
        self.parts = self.condenser.parts()
        self.values = Values(deps, layout)
        self.weights = Weights(deps, layout, self.parts)
        self.groups_on: dict[str, dict[str, Group]] = {}
        for group in deps.groups:
            for member in group.members:
                self.groups_on.setdefault(member.parameter, {})[group.name] = group
        self.pins: dict[str, list[str]] = {}
        self.pinned_at: dict[str, str] = {}
        for group in deps.groups:
            if (met := meeting_place(deps.trace.labels, group)) is not None:
                self.pinned_at[group.name] = met.node.name
                self.pins.setdefault(met.node.name, []).append(group.name)
        self.edges = self._edges()
        self.entering: dict[str, list[Value]] = {}
        self.leaving: dict[str, list[Value]] = {}
        for edge in self.edges:
            self.entering.setdefault(edge.target, []).extend(edge.values)
            self.leaving.setdefault(edge.source, []).extend(edge.values)

    def _edges(self) -> tuple[PictureEdge, ...]:
        """One edge for each two nodes that data flows between."""
        found = flows(self.parts).items()
        return tuple(PictureEdge(*ends, self.values.of_all(ops)) for ends, ops in found)

    def picture(self) -> Picture:
        """The picture."""
        nodes = tuple(self.node(number, part) for number, part in enumerate(self.parts))
        whole = self.weights.whole
        return Picture(
            level=self.level,
            nodes=nodes,
            edges=self.edges,
            groups={group.name: group for group in self.groups(nodes)},
            modules=self.modules(),
            pruned=self.plan is not None,
            dropped=self.deps.dropped,
            parameters=(whole.parameters, sum(node.parameters_after for node in nodes)),
            macs=(whole.macs, sum(node.macs_after for node in nodes)),
        )

    def node(self, number: int, part: Part) -> PictureNode:
        """The node of some operators."""
        first, names = part.ops[0], tuple(op.name for op in part.ops)
        entering = self.entering.get(first.name, [])
        outcome = self.outcome(part)
        own = {n: g for name in self.weights.read(number) for n, g in self.on(name).items()}
        carried = self.values.groups(outcome)
        shown = {**self.values.groups(entering), **carried}
        goes = self.weights.goes(names)
        parameters, parameters_after = self.weights.parameters(number)
        macs, macs_after = self.weights.macs(names)
        return PictureNode(
            name=first.name,
            kind=self.kind(part),
            path=part.path,
            paths=tuple(filter(None, dict.fromkeys(map(module_path, part.ops)))),
            parent=part.parent,
            title=self.title(part),
            operators=self.operators(part),
            ops=names,
            source=source_line(first),
            parameters=parameters,
            parameters_after=0 if goes else parameters_after,
            macs=macs,
            macs_after=0 if goes else macs_after,
            share=parameters / total if (total := self.weights.whole.parameters) else 0.0,
            groups=tuple({**own, **carried}),
            group=_common_group(outcome),
            inner=tuple(n for n, g in own.items() if n not in shown and g.pinned is None),
            pinned=_common_pin(carried.values()),
            pins=tuple(pin for name in names for pin in self.pins.get(name, ())),
            goes=goes,
        )

    def on(self, parameter: str) -> Mapping[str, Group]:
        """The groups on a tensor of the state."""
        return self.groups_on.get(parameter, {})

    def outcome(self, part: Part) -> Sequence[Value]:
        """What others read of a part; if that carries no channels, the last in it that does.

        Channels that are pinned for good inside of a part would not be seen otherwise.
        """
        first = part.ops[0]
        if first.op == "output":
            return self.entering.get(first.name, [])
        read = self.leaving.get(first.name, [])
        last = map(self.values.of, reversed(part.ops))
        return next((found for found in (read, *last) if any(v.dims for v in found)), read)

    def is_loose(self, part: Part) -> bool:
        """Whether operators stand between the calls of modules."""
        return part.path == part.parent

    def kind(self, part: Part) -> NodeKind:
        """What sort of node it is."""
        if part.ops[0].op in ENDS:
            return "input" if part.ops[0].op == "placeholder" else "output"
        return "op" if self.is_loose(part) else "module"

    def title(self, part: Part) -> str:
        """The name of a module below that in whose box it lies, or of an input."""
        if part.ops[0].op in ENDS:
            return str(part.ops[0].target)
        return part.path.removeprefix(part.parent).lstrip(".")

    def operators(self, part: Part) -> tuple[str, ...]:
        """What a part computes."""
        if part.ops[0].op in ENDS:
            return ()
        if self.level == "op":
            return (operator_name(part.ops[0], self.deps.model),)
        known = self.condenser
        return tuple(operators(self.deps.model, part.ops, known.containers, known.heavy))

    def groups(self, nodes: Iterable[PictureNode]) -> Iterator[PictureGroup]:
        """All groups; those of several nodes have colours, in the order of their first nodes."""
        drawn: dict[str, list[PictureNode]] = {}
        for node in nodes:
            if node.group:
                drawn.setdefault(node.group, []).append(node)
        inside = {n: [x for x in found if x.kind in _INSIDE] for n, found in drawn.items()}
        coloured = [name for name, found in inside.items() if len(found) > 1]
        colours = {name: number for number, name in enumerate(coloured)}
        planned = self.plan.groups if self.plan is not None else {}
        for group in self.deps.groups:
            yield PictureGroup(
                name=group.name,
                kind=group.kind,
                size=group.size,
                width=planned[group.name].width if group.name in planned else group.size,
                pinned=group.pinned,
                pinned_at=self.pinned_at.get(group.name, ""),
                members=tuple(map(str, group.members)),
                nodes=tuple(node.name for node in drawn.get(group.name, ())),
                colour=colours.get(group.name),
            )

    def modules(self) -> dict[str, str]:
        """The class of every module that holds nodes."""
        found = {"": type(self.deps.model).__name__}
        for part in self.parts:
            path = part.parent
            while path and path not in found:
                found[path] = class_name(self.deps.model, path, part.ops[0])
                path = path.rpartition(".")[0]
        return found


def _common_group(values: Iterable[Value]) -> str:
    """The group that values are coloured by; empty if they differ in it."""
    found = {value.group for value in values if value.dims}
    return found.pop() if len(found) == 1 else ""


def _common_pin(groups: Iterable[Group]) -> Diagnostic | None:
    """Why none of some groups can lose channels; None if one can, or there are none."""
    pins = [group.pinned for group in groups]
    return pins[0] if pins and None not in pins else None
