"""Axes of an analyzed model as rows of cells: the colour is the group, the number the channel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

import fxprune
from examples.concepts.cells import Cell, Row, svg_of
from fxprune.drawing.colours import colour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from fxprune.labels import Axis
    from fxprune.planning import Layout


@dataclass(frozen=True, eq=False)
class Scene:
    """A model and the channels that go, by group."""

    model: nn.Module
    size: tuple[int, ...]
    channels: Mapping[str, Sequence[int]]

    @cached_property
    def deps(self) -> fxprune.DependencyGraph:
        """The analysis."""
        return fxprune.analyze(self.model.eval(), torch.zeros(self.size))

    @cached_property
    def plan(self) -> fxprune.Plan:
        """The plan that removes the channels."""
        return fxprune.plan(self.deps, channels=self.channels)

    @cached_property
    def groups(self) -> list[fxprune.Group]:
        """The groups that are free."""
        return [group for group in self.deps.groups if group.prunable]

    @cached_property
    def _layout(self) -> Layout:
        return self.plan.layout(self.deps)

    @cached_property
    def _names(self) -> dict[int, tuple[int, int]]:
        """For each label id the numbers of its group and channel."""
        return {
            int(label): (number, channel)
            for number, group in enumerate(self.groups)
            for channel, label in enumerate(group.ids)
        }

    def parameter(self, name: str, dim: int) -> list[Row]:
        """The labels of an axis of a parameter."""
        return self._rows(f"{name}, dim {dim}", self.deps.trace.axes[name][dim])

    def value(self, node: str, dim: int, label: str) -> list[Row]:
        """The labels of an axis of what a node returns."""
        value: Any = self.deps.trace.values[node]
        return self._rows(label, value.axes[dim])

    def matrix(self, name: str, dim: int, note: str) -> list[Row]:
        """A weight matrix, cell by cell, coloured along one of its axes."""
        cells = self._cells(self.deps.trace.axes[name][dim])[0]
        shape = self.deps.state[name].shape
        rows = [(c,) * shape[1] for c in cells] if dim == 0 else [tuple(cells)] * shape[0]
        return [
            Row(name if k == 0 else "", row, note if k == 0 else "", 0 if k else 14)
            for k, row in enumerate(rows)
        ]

    def svg(self, rows: Sequence[Row], title: str, stay: str = "") -> str:
        """The picture; `stay` is what the legend says of hatched cells."""
        legend: dict[str, str | None] = {
            f"{group.name}: {group.size} {group.kind}": colour(k)
            for k, group in enumerate(self.groups)
        }
        return svg_of(rows, {**legend, **({stay: None} if stay else {})}, title)

    def _cells(self, axis: Axis) -> list[tuple[Cell, ...]]:
        """A row of cells for each label vector of an axis, or one of hatched cells."""
        gone = self._layout.removed_positions(axis, self.deps.trace.labels)
        vectors = self.deps.trace.labels.leaves(axis)
        rows = []
        for vector in vectors:
            named = [self._names[int(label)] for label in vector]
            rows.append(
                tuple(
                    Cell(str(channel), colour(group), bool(removed))
                    for (group, channel), removed in zip(named, gone, strict=True)
                )
            )
        return rows or [(Cell(),) * axis.size]

    def _rows(self, label: str, axis: Axis) -> list[Row]:
        return [
            Row(label if k == 0 else "", cells, gap=0 if k else 10)
            for k, cells in enumerate(self._cells(axis))
        ]
