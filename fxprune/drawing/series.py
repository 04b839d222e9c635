"""The numbers of a picture after several plans: what a slider over ratios shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fxprune.drawing.condensing import flows
from fxprune.errors import InputError, PlanError
from fxprune.planning.layout import Layout
from fxprune.planning.plain import plain_selection
from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.drawing.building import Builder
    from fxprune.drawing.pictures import Picture, Value
    from fxprune.labels import Axis

RATIOS = tuple(step / 20 for step in range(20))
"""The ratios that are shown: 0, 0.05 ... 0.95."""
Numbers = tuple[int, ...]
"""One number for each plan."""


class Flow(NamedTuple):
    """A tensor on an edge: what it is, and for each of its axes the size after each plan."""

    value: Value
    sizes: tuple[Numbers, ...]


class Weight(NamedTuple):
    """Parameters and MACs of a node after each plan, and whether nothing is left of it."""

    parameters: Numbers
    macs: Numbers
    goes: tuple[bool, ...]


@dataclass(frozen=True)
class Series:
    """The numbers of a picture after the plan of each ratio, and after the plan that it is of.

    Attributes:
        ratios: those of the plans; the first is 0.
        planned: whether one more plan follows them: that of the picture.
        criterion: by which the plans of the ratios choose channels.
        why_not: why there is no ratio but 0; "" if there are others.
        flows: for the source and the target of each edge the tensors on it.
        weights: for each node its weight.
        groups: for each group its width.
        totals: parameters and MACs of the whole model.
    """

    ratios: tuple[float, ...]
    planned: bool
    criterion: str
    why_not: str = ""
    flows: Mapping[tuple[str, str], tuple[Flow, ...]] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)
    groups: Mapping[str, Numbers] = field(default_factory=dict)
    totals: tuple[Numbers, Numbers] = ((), ())

    def at(self, picture: Picture) -> dict[str, tuple[object, ...]]:
        """All numbers at each node of a picture and on the edges to it, to compare nodes by."""
        entering: dict[str, list[tuple[Numbers, ...]]] = {}
        for edge in picture.edges:
            found = self.flows[edge.source, edge.target]
            entering.setdefault(edge.target, []).extend(each.sizes for each in found)
        return {
            node.name: (
                *self.weights[node.name],
                *sorted(entering.get(node.name, ())),
                *(self.groups[name] for name in filter(None, (node.group, *node.inner))),
            )
            for node in picture.nodes
        }


def series_of(builder: Builder) -> Series:
    """The numbers for the picture of a builder, with the widths that `fxprune.plan` chooses."""
    deps = builder.deps
    ratios, layouts, why_not = RATIOS, [], ""
    criterion = _criterion(deps)
    try:
        selection = plain_selection(deps, criterion)
        layouts = [Layout(deps, selection.removed(ratio)) for ratio in ratios]
    except (InputError, PlanError) as error:
        ratios, why_not = RATIOS[:1], error.what
        layouts = [Layout(deps, np.zeros(0, dtype=np.int64))]
    if builder.layout is not None:
        layouts.append(builder.layout)
    weights = dict(_weights(builder, layouts))
    return Series(
        ratios=ratios,
        planned=builder.layout is not None,
        criterion=criterion,
        why_not=why_not,
        flows=dict(_flows(builder, layouts)),
        weights=weights,
        groups={
            group.name: tuple(
                group.size - int(each.is_removed(group.ids).sum()) for each in layouts
            )
            for group in deps.groups
        },
        totals=(
            _summed(weight.parameters for weight in weights.values()),
            _summed(weight.macs for weight in weights.values()),
        ),
    )


def still(picture: Picture) -> Series:
    """The numbers of a picture alone, of a model that is not at hand: those of its plan, if any."""
    plans = 2 if picture.pruned else 1

    def numbers(before: int, after: int) -> Numbers:
        return (before, after)[:plans]

    return Series(
        ratios=RATIOS[:1],
        planned=picture.pruned,
        criterion="l2",
        why_not="the page has a part of a model, and not the model",
        flows={
            (edge.source, edge.target): tuple(
                Flow(value, tuple(map(numbers, value.before, value.after))) for value in edge.values
            )
            for edge in picture.edges
        },
        weights={
            node.name: Weight(
                numbers(node.parameters, node.parameters_after),
                numbers(node.macs, node.macs_after),
                (False, node.goes)[:plans],
            )
            for node in picture.nodes
        },
        groups={name: numbers(g.size, g.width) for name, g in picture.groups.items()},
        totals=(numbers(*picture.parameters), numbers(*picture.macs)),
    )


def _summed(numbers: Iterable[Numbers]) -> Numbers:
    """The sum after each plan."""
    return tuple(map(sum, zip(*numbers, strict=True)))


def _criterion(deps: DependencyGraph) -> str:
    """Magnitudes; weights without data have none, so there channels are taken at random."""
    has_data = all(p.device.type != "meta" for p in deps.graph_module.parameters())
    return "l2" if has_data else "random"


def _flows(
    builder: Builder, layouts: Sequence[Layout]
) -> Iterator[tuple[tuple[str, str], tuple[Flow, ...]]]:
    """The tensors on each edge."""

    @cache
    def sizes(axis: Axis) -> Numbers:
        return tuple(layout.size(axis) for layout in layouts)

    for ends, ops in flows(builder.parts).items():
        values = (builder.deps.trace.values.get(op.name) for op in ops)
        tensors = (tensor for value in values for tensor in traced_tensors(value))
        found = (Flow(builder.values.value(t), tuple(map(sizes, t.axes))) for t in tensors)
        yield ends, tuple(dict.fromkeys(found))


def _weights(builder: Builder, layouts: Sequence[Layout]) -> Iterator[tuple[str, Weight]]:
    """The weight of each node."""
    after = [builder.weights.after(layout) for layout in layouts]
    for number, part in enumerate(builder.parts):
        ops = [op.name for op in part.ops]
        goes = tuple(each.goes(ops) for each in after)
        parameters = (each.parameters(number)[1] for each in after)
        macs = (each.macs(ops)[1] for each in after)
        yield (
            part.ops[0].name,
            Weight(
                tuple(0 if gone else count for gone, count in zip(goes, parameters, strict=True)),
                tuple(0 if gone else count for gone, count in zip(goes, macs, strict=True)),
                goes,
            ),
        )
