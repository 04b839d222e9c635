"""Runs of an original's operators for its gradients, masked where autograd sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from fxprune.rules import axes_of, put_axes
from fxprune.values import mapped, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fxprune.labels import Axis, LabelAlgebra
    from fxprune.planning.branches import Kind
    from fxprune.reference import Removed


class MaskedRun(fx.Interpreter):
    """Runs operators as the reference does, where autograd sees it.

    Positions that are coupled only later (a padded value that meets another, a `new_zeros` that is
    filled in place) are not known to be removed yet; a second run, which is given the axes that the
    first one found, knows.

    Args:
        module: the operators of the original.
        run: runs one of them without the removed positions.
        labels: those of the run.
        known: by node, the axes of each tensor that it yields, as the first run found them.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        run: Callable[[Any, Any, Any], Any],
        labels: LabelAlgebra,
        known: Mapping[str, Sequence[Sequence[Axis]]] | None = None,
    ) -> None:
        super().__init__(module)
        self.run_masked = run
        self.labels = labels
        self.known = known or {}
        self.axes: dict[str, list[list[Axis]]] = {}
        self.early = len(labels)
        self.late: list[Axis] = []

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and note or put the axes of what it yields."""
        out = super().run_node(n)
        if n.op == "call_function":
            found = tensors(out)
            for tensor, axes in zip(found, self.known.get(n.name, ()), strict=False):
                put_axes(tensor, axes)
            self.axes[n.name] = [axes_of(tensor, self.labels) for tensor in found]
            if len(self.labels) > self.early:
                self.late += [a for axes in self.axes[n.name] for a in axes if self._is_late(a)]
        return out

    def _is_late(self, axis: Axis) -> bool:
        """Whether positions of an axis are not coupled to any that the analysis knows, so far."""
        return any((ids >= self.early).any() for ids in self.labels.leaves(axis))

    def has_learned(self, removed: Removed) -> bool:
        """Whether a removed position was perhaps not known to be one."""
        return any(removed(axis).any() for axis in self.late)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run an operator without the removed positions."""
        if isinstance(target, torch._ops.OpOverload):
            return self.run_masked(target, args, kwargs)
        return super().call_function(target, args, kwargs)


class SeveredRun(MaskedRun):
    """Where a branch has gone, what it still adds is a constant, which follows no parameter.

    It is what operators make of what has gone, constants and state alone.

    Args:
        module, run, labels, known: see `MaskedRun`.
        removed: tells the removed positions of an axis.
        state: how many of the placeholders, the first ones, are parameters and buffers.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        run: Callable[[Any, Any, Any], Any],
        labels: LabelAlgebra,
        known: Mapping[str, Sequence[Sequence[Axis]]],
        *,
        removed: Removed,
        state: int,
    ) -> None:
        super().__init__(module, run, labels, known)
        self.removed = removed
        given = [node for node in module.graph.nodes if node.op == "placeholder"]
        self.kinds: dict[fx.Node, Kind] = dict.fromkeys(given[:state], "state")

    def run_node(self, n: fx.Node) -> Any:
        """Run a node; no gradient goes through a constant."""
        out = super().run_node(n)
        if n.op != "call_function":
            return out
        self.kinds[n] = self._kind(n, tensors(out))
        return mapped(self._severed, out) if self.kinds[n] == "constant" else out

    def _kind(self, node: fx.Node, found: Sequence[torch.Tensor]) -> Kind:
        if found and all(map(self._is_gone, found)):
            return "gone"
        read = {self.kinds.get(operand, "live") for operand in node.all_input_nodes}
        if not read or "live" in read:
            return "live"
        return "state" if read == {"state"} else "constant"

    def _is_gone(self, tensor: torch.Tensor) -> bool:
        return any(a.size and self.removed(a).all() for a in axes_of(tensor, self.labels))

    def _severed(self, tensor: torch.Tensor) -> torch.Tensor:
        severed = tensor.detach()
        put_axes(severed, axes_of(tensor, self.labels))
        return severed
