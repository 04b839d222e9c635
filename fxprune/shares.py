"""The prunable share of the parameters: the ceiling of what any plan can reach into."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fxprune.groups import Group
    from fxprune.traces import Trace


@dataclass(frozen=True)
class Share:
    """How many of a module's parameters some plan can remove.

    Attributes:
        module: name of a top-level module, or "" for the whole model.
        parameters: number of parameters.
        prunable: number of those that lie at a position of a prunable channel on at least one axis.
    """

    module: str
    parameters: int
    prunable: int

    @property
    def share(self) -> float:
        """The prunable part of the parameters, from 0 to 1; 0 if there are none."""
        return self.prunable / self.parameters if self.parameters else 0.0

    def __str__(self) -> str:
        return f"{self.share:.1%} ({self.prunable:,} of {self.parameters:,})"


def prunable_counts(
    trace: Trace, groups: tuple[Group, ...], sizes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """For each parameter the number of its entries that some plan can remove.

    An entry counts if on at least one axis its position carries a channel of a prunable group.

    Args:
        trace: the labels of every axis.
        groups: all groups.
        sizes: the shape of each parameter.
    """
    labels = trace.labels
    prunable = np.zeros(len(labels), dtype=np.bool_)
    for group in groups:
        prunable[group.ids] = group.prunable
    found = {}
    for name, shape in sizes.items():
        staying = []
        for axis in trace.axes[name]:
            goes = np.zeros(axis.size, dtype=np.bool_)
            for vector in labels.leaves(axis):
                goes |= prunable[vector]
            staying.append(axis.size - int(goes.sum()))
        found[name] = prod(shape) - prod(staying)
    return found


def by_module(counts: Mapping[str, int], sizes: Mapping[str, tuple[int, ...]]) -> tuple[Share, ...]:
    """One share for each top-level module.

    Where all parameters lie in a single module, it is opened.
    """
    depth = 0
    names = [name.split(".") for name in counts]
    while names and all(
        len(n) > depth + 2 and n[: depth + 1] == names[0][: depth + 1] for n in names
    ):
        depth += 1
    rows: dict[str, list[str]] = {}
    for name in counts:
        parts = name.split(".")
        rows.setdefault(".".join(parts[: depth + 1]), []).append(name)
    return tuple(_rows(rows, counts, sizes))


def _rows(
    rows: Mapping[str, list[str]],
    counts: Mapping[str, int],
    sizes: Mapping[str, tuple[int, ...]],
) -> Iterator[Share]:
    for module, names in rows.items():
        total = sum(prod(sizes[name]) for name in names)
        yield Share(module, total, sum(counts[name] for name in names))
