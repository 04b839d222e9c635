"""What a page with a picture is told, as plain data: names once, and numbers as small as can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fxprune.drawing.colours import colour
from fxprune.drawing.folding import folded
from fxprune.drawing.marks import bordered, explained
from fxprune.explanations import in_plain_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fxprune.drawing.pictures import Picture, PictureNode, Value
    from fxprune.drawing.series import Flow, Numbers, Series, Weight
    from fxprune.errors import Diagnostic

_PLAIN = ("name", "kind", "title", "path", "parent", "paths", "operators", "ops", "source")
"""What is told of a node as it is."""


def page_data(picture: Picture, series: Series, *, fold: bool = True) -> dict[str, Any]:
    """A picture, and its numbers after several plans, for the scripts of the page.

    Nodes, groups, values and reasons are told once and named by their places. A series of numbers,
    one for each plan, that are all the same is told as one number.
    """
    drawn = folded(picture, series.at(picture)) if fold else picture
    return _Document(picture, drawn, series).content()


class _Table(dict[Any, int]):
    """Things in their order, each once, and their places."""

    def place(self, item: Any) -> int:
        """The place of a thing, which is entered if it is new."""
        return self.setdefault(item, len(self))


class _Document:
    """Tells a picture piece by piece."""

    def __init__(self, picture: Picture, drawn: Picture, series: Series) -> None:
        self.picture = drawn
        self.series = series
        instead = _instead(picture, drawn)
        self.repeats: dict[str, list[PictureNode]] = {}
        for node in picture.nodes:
            if node.name in instead:
                self.repeats.setdefault(instead[node.name], []).append(node)
        self.carried = _carried(picture, instead)
        self.groups = {name: place for place, name in enumerate(drawn.groups)}
        self.places = {node.name: place for place, node in enumerate(drawn.nodes)}
        self.explained, self.bordered = explained(drawn), bordered(drawn)
        self.reasons = _Table()
        self.values = _Table()

    def content(self) -> dict[str, Any]:
        """All of it."""
        picture, series = self.picture, self.series
        nodes = [self.node(node) for node in picture.nodes]
        edges = [
            [self.places[e.source], self.places[e.target], self.flow(e.source, e.target)]
            for e in picture.edges
        ]
        groups = [self.group(name) for name in picture.groups]
        totals = (picture.parameters[0], picture.macs[0])
        return {
            "name": picture.modules.get("", ""),
            "ratios": list(series.ratios),
            "planned": series.planned,
            "criterion": series.criterion,
            "whyNot": series.why_not,
            "dropped": list(picture.dropped),
            "before": totals,
            "after": [list(numbers) for numbers in series.totals],
            "nodes": nodes,
            "edges": edges,
            "values": [list(value) for value in self.values],
            "groups": groups,
            "reasons": [_reason(reason) for reason in self.reasons],
            "modules": picture.modules,
            "folds": {path: list(paths) for path, paths in picture.folds.items()},
        }

    def node(self, node: PictureNode) -> dict[str, Any]:
        """A node."""
        weight: Weight = self.series.weights[node.name]
        return {
            **{name: getattr(node, name) for name in _PLAIN},
            "parameters": _short(weight.parameters),
            "macs": _short(weight.macs),
            "goes": _short(tuple(map(int, weight.goes))),
            "groups": [self.groups[name] for name in node.groups],
            "group": self.groups.get(node.group, -1),
            "inner": [self.groups[name] for name in node.inner],
            "pinned": self.reason(node.pinned),
            "tells": node.name in self.explained,
            "bordered": node.name in self.bordered,
            "outside": node.name in self.picture.outside,
            "mark": self.picture.marks.get(node.name, ""),
            "repeats": [other.path or other.name for other in self.repeats.get(node.name, ())],
            "repeated": self.repeated(node),
        }

    def repeated(self, node: PictureNode) -> list[int]:
        """The groups of the nodes that a node stands for."""
        others = self.repeats.get(node.name, ())
        names = dict.fromkeys(name for other in others for name in other.groups)
        return [self.groups[name] for name in names if name not in node.groups]

    def flow(self, source: str, target: str) -> list[int]:
        """The tensors on an edge; in a picture with folded blocks it may leave the last of them."""
        found = self.series.flows.get((source, target))
        if found is None:
            sources = [other.name for other in self.repeats.get(source, ())]
            found = next(f for s in sources if (f := self.series.flows.get((s, target))))
        repeated = self.carried.get((source, target), {})
        return [self.values.place(self.value(each, repeated)) for each in found]

    def value(self, flow: Flow, repeated: Iterable[str]) -> tuple[Any, ...]:
        """A tensor: the sizes of its axes, those that are shown, and the groups on it.

        Of an edge that is drawn for several, these are the groups on any of them.
        """
        names = dict.fromkeys((*_groups_on((flow.value,)), *repeated))
        return (
            tuple(map(_short, flow.sizes)),
            flow.value.dims,
            tuple(self.groups[name] for name in names),
            self.groups.get(flow.value.group, -1),
        )

    def group(self, name: str) -> dict[str, Any]:
        """A group."""
        group = self.picture.groups[name]
        return {
            "name": name,
            "kind": group.kind,
            "widths": _short(self.series.groups[name]),
            "pinned": self.reason(group.pinned),
            "pinnedAt": group.pinned_at,
            "members": list(group.members),
            "fill": colour(group.colour),
        }

    def reason(self, reason: Diagnostic | None) -> int:
        """The place of a reason; -1 for none."""
        return -1 if reason is None else self.reasons.place(reason)


def _reason(reason: Diagnostic) -> dict[str, str]:
    return {
        "what": reason.what,
        "why": in_plain_words(reason),
        "where": str(reason.where),
        "hint": reason.hint,
    }


def _short(numbers: Numbers) -> Any:
    """One number in place of many that are the same."""
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _instead(picture: Picture, drawn: Picture) -> dict[str, str]:
    """For each node that is not drawn the one that is drawn for it."""
    instead: dict[str, str] = {}
    for first, paths in drawn.folds.items():
        own = _inside(picture.nodes, first)
        for path in paths[1:]:
            for node, other in zip(own, _inside(picture.nodes, path), strict=True):
                instead[other.name] = node.name

    def last(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    return {name: last(other) for name, other in instead.items()}


def _carried(
    picture: Picture, instead: Mapping[str, str]
) -> dict[tuple[str, str], dict[str, None]]:
    """For each edge that is drawn for others the groups on those."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for edge in picture.edges:
        ends = (instead.get(edge.source, edge.source), instead.get(edge.target, edge.target))
        if ends != (edge.source, edge.target):
            found.setdefault(ends, {}).update(dict.fromkeys(_groups_on(edge.values)))
    return found


def _groups_on(values: Iterable[Value]) -> Iterator[str]:
    return (name for value in values for on in value.groups for name in on)


def _inside(nodes: Iterable[PictureNode], path: str) -> Sequence[PictureNode]:
    """The nodes that lie in the box of a module."""
    return [node for node in nodes if f"{node.parent}.".startswith(f"{path}.")]
