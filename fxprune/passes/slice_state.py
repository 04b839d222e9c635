"""Slice parameters and buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fxprune.errors import RewriteError
from fxprune.module_trees import named_state
from fxprune.passes.base import Pass, fork
from fxprune.passes.slicing import sliced

if TYPE_CHECKING:
    from torch import fx

    from fxprune.passes.donation import Donation
    from fxprune.planning import Layout


@dataclass(frozen=True)
class SliceState(Pass):
    """Give every parameter and buffer its kept positions.

    1. A tensor that loses positions is sliced once a dim (`index_select`).
    2. Any other tensor is cloned, so that training the result leaves the original alone.
    3. What was tied stays tied; dtype, device, `requires_grad` and memory format of each tensor,
       and the hooks and flags of each module survive.
    4. Of weights that are donated, tensors without data stand for what is kept, until `fill`; but
       not where a branch goes, for constants are made of its weights.
    """

    donation: Donation | None = None

    def copy(self, graph_module: fx.GraphModule, layout: Layout) -> fx.GraphModule:
        """A copy with sliced tensors, so that nothing is copied only to be sliced."""
        kept = {
            id(tensor): [layout.kept(axis) for axis in layout.deps.trace.axes[name]]
            for name, tensor in named_state(graph_module).items()
        }
        taken = sliced
        if self.donation is not None and not layout.emptied:
            taken = self.donation.stand_in
        return fork(graph_module, lambda tensor: taken(tensor, kept.get(id(tensor), ())))

    def requires(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """Every tensor still has the original's shape."""
        super().requires(graph_module, layout)
        for name, tensor in named_state(graph_module).items():
            expected = tuple(axis.size for axis in layout.deps.trace.axes[name])
            if tuple(tensor.shape) != expected:
                raise RewriteError(
                    f"{name} has shape {tuple(tensor.shape)}, the original {expected}",
                    hint="run SliceState once, on the model that was analyzed",
                )

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        """Slicing is part of the copy."""
        return True

    def ensures(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """Every tensor has the shape that the layout predicts."""
        for name, tensor in named_state(graph_module).items():
            predicted = tuple(layout.size(axis) for axis in layout.deps.trace.axes[name])
            if tuple(tensor.shape) != predicted:
                raise RewriteError(
                    f"{name} came out as {tuple(tensor.shape)} instead of {predicted}"
                )
