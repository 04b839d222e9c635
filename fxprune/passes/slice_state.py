"""Slice parameters and buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fxprune.errors import RewriteError
from fxprune.module_trees import as_parameter, named_state
from fxprune.passes.base import Pass, fork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import fx

    from fxprune.planning import Layout


@dataclass(frozen=True)
class SliceState(Pass):
    """Give every parameter and buffer its kept positions.

    1. A tensor that loses positions is sliced once a dim (`index_select`).
    2. Any other tensor is cloned, so that training the result leaves the original alone.
    3. What was tied stays tied; dtype, device, `requires_grad` and memory format of each tensor,
       and the hooks and flags of each module survive.
    """

    def copy(self, graph_module: fx.GraphModule, layout: Layout) -> fx.GraphModule:
        """A copy with sliced tensors, so that nothing is copied only to be sliced."""
        kept = {
            id(tensor): [layout.kept(axis) for axis in layout.deps.trace.axes[name]]
            for name, tensor in named_state(graph_module).items()
        }

        return fork(graph_module, lambda tensor: sliced(tensor, kept.get(id(tensor), ())))

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


def sliced(tensor: torch.Tensor, kept: Sequence[NDArray[np.int64] | None]) -> torch.Tensor:
    """A copy of the positions that stay along each dim; None for all."""
    with torch.no_grad():
        result = tensor.detach()
        for dim, index in enumerate(kept):
            if index is not None:
                positions = torch.from_numpy(np.ascontiguousarray(index))
                result = result.index_select(dim, positions.to(tensor.device))
        if result.data_ptr() == tensor.data_ptr():
            result = result.clone()
        return as_parameter(_formatted(result, tensor), tensor)


def _formatted(result: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A sliced tensor in the memory format of the original."""
    for rank, memory_format in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if like.dim() != rank or like.is_contiguous():
            continue
        if like.is_contiguous(memory_format=memory_format):
            return result.contiguous(memory_format=memory_format)
    return result
