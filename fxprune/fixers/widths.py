"""Widths of a module before and after a removal, for fixers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fxprune.errors import RewriteError

if TYPE_CHECKING:
    from fxprune.groups import Group, Kind
    from fxprune.planning import Layout
    from fxprune.traces import TracedTensor


@dataclass(frozen=True)
class Widths:
    """What a removal does to a module: to its first input and output, its parameters, its heads.

    Attributes:
        layout: what stays of every axis.
        path: the module's name.
        first_input: the first tensor that the module was given, or None.
        first_output: the first tensor that it returned, or None.
    """

    layout: Layout
    path: str
    first_input: TracedTensor | None
    first_output: TracedTensor | None

    @property
    def input(self) -> tuple[int, ...]:
        """The new shape of the first input."""
        return self._shape(self.first_input)

    @property
    def output(self) -> tuple[int, ...]:
        """The new shape of the first output."""
        return self._shape(self.first_output)

    def _shape(self, tensor: TracedTensor | None) -> tuple[int, ...]:
        if tensor is None:
            raise RewriteError(f"module {self.path} is not known to take and return a tensor")
        return self.layout.shape(tensor)

    def parameters(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, dim, old and new size of every axis of the module's parameters and buffers."""
        prefix = f"{self.path}." if self.path else ""
        for name, axes in self.layout.deps.trace.axes.items():
            if name.startswith(prefix):
                for dim, axis in enumerate(axes):
                    yield name, dim, axis.size, self.layout.size(axis)

    def input_sizes(self) -> Iterator[tuple[int, int]]:
        """Old and new size of every axis of the first input; none if there is none."""
        if self.first_input is not None:
            yield from zip(self.first_input.shape, self.input, strict=True)

    def groups(self, kind: Kind) -> Iterator[tuple[Group, int]]:
        """Groups of a kind on the module's parameters, and how many channels of each stay."""
        prefix = f"{self.path}." if self.path else ""
        for group in self.layout.deps.groups:
            if group.kind == kind and any(m.parameter.startswith(prefix) for m in group.members):
                yield group, int((~self.layout.is_removed(group.ids)).sum())

    def products(self, kind: Kind) -> dict[frozenset[str], tuple[int, int]]:
        """Sets of groups of a kind that share positions of a parameter, by the groups' names.

        Their sizes multiply: with key and value heads that serve several query heads each, queries
        have two groups of heads, keys and values one. The numbers are those before and after.
        """
        prefix = f"{self.path}." if self.path else ""
        sizes = {group.name: (group.size, left) for group, left in self.groups(kind)}
        axes: dict[tuple[str, int], dict[str, Any]] = {}
        for group, _ in self.groups(kind):
            for member in group.members:
                if member.parameter.startswith(prefix):
                    masks = axes.setdefault((member.parameter, member.dim), {})
                    masks[group.name] = member.channels >= 0
        found = {}
        for masks in axes.values():
            for row in np.unique(np.stack(list(masks.values())), axis=1).T:
                names = frozenset(name for name, is_on in zip(masks, row, strict=True) if is_on)
                if names:
                    pairs = [sizes[name] for name in names]
                    found[names] = math.prod(p[0] for p in pairs), math.prod(p[1] for p in pairs)
        return found

    def count(self, old: int, kind: Kind) -> int:
        """What a number of heads (head dims ...) becomes, if it was `old`.

        With key and value heads that serve several query heads each, `old` may be the number of
        either.

        Raises:
            RewriteError: groups of that number do not agree.
        """
        changed = [(was, now) for was, now in self.products(kind).values() if was != now]
        found = {now for was, now in changed if was == old} or {
            old // was * now for was, now in changed if old % was == 0
        }
        if len(found) > 1:
            raise RewriteError(
                f"{old} {kind} of module {self.path} become {sorted(found)}",
                why="its groups lose different numbers of them",
                hint="give these groups the same ratio",
            )
        return found.pop() if found else old

    def shared(self, old: int) -> int:
        """What a number of query heads becomes that share a key and value head, if it was `old`."""
        known = self.products("heads")
        pairs = [(large, small) for large in known for small in known if small < large]
        found = {
            known[large][1] // known[small][1]
            for large, small in pairs
            if known[large][0] == old * known[small][0]
        }
        return found.pop() if len(found) == 1 else old

    def kept_groups(self, parameter: str, dim: int, groups: int) -> int:
        """How many of the groups of consecutive channels keep any.

        They are counted on dim 0 of a parameter of the module, or on a dim of the first input if
        the parameter is computed of others.
        """
        name = f"{self.path}.{parameter}" if self.path else parameter
        axes = self.layout.deps.trace.axes.get(name)
        if axes is not None:
            axis = axes[0]
        elif self.first_input is not None:
            axis = self.first_input.axes[dim]
        else:
            return groups
        kept = self.layout.kept(axis)
        return groups if kept is None else len(np.unique(kept // (axis.size // groups)))
