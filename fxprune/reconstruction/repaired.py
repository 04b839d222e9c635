"""The repaired original of a small model that was made of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fxprune.errors import InputError
from fxprune.module_trees import as_parameter, clone_tree, named_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

    from fxprune.analysis import DependencyGraph
    from fxprune.planning import Layout


def with_tensors_of(
    small: nn.Module, deps: DependencyGraph, layout: Layout, names: Iterable[str]
) -> nn.Module:
    """A copy of the original in which some tensors are, at kept positions, those of a small model.

    Args:
        small: what was made of the repaired original.
        deps: the analysis of the original.
        layout: what stays of it.
        names: of the tensors that were repaired.

    Raises:
        InputError: the small model has no such tensor, or one of another size.
    """
    there = named_tensors(small)
    instead: dict[str, torch.Tensor] = {}
    for name in names:
        if (own := deps.state.get(name)) is None:
            raise InputError(
                f"the original has no tensor {name}, which the report says was repaired",
                hint="pass the model that was shrunk",
            )
        kept = [layout.kept(axis) for axis in deps.trace.axes[name]]
        index = [np.arange(n) if k is None else k for n, k in zip(own.shape, kept, strict=True)]
        new = there.get(name)
        if new is None or tuple(new.shape) != tuple(map(len, index)):
            raise InputError(
                f"the shrunk model has no tensor {name} of the shape that is left of it",
                why="its report says that this was repaired",
                hint="pass what fxprune.shrink returned",
            )
        values = own.detach().clone()
        values[np.ix_(*index)] = new.detach().to(values)
        instead[name] = values
    return with_tensors(deps, instead)


def with_tensors(deps: DependencyGraph, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of the analyzed model that shares all tensors but some with it.

    Args:
        deps: the analysis.
        tensors: what is there instead, by the names that the graph has for them.

    Raises:
        InputError: the model does not have them, because the graph has copies of its tensors.
    """
    instead = {id(deps.state[name]): tensor for name, tensor in tensors.items()}
    found: set[int] = set()

    def convert(own: torch.Tensor) -> torch.Tensor:
        if id(own) not in instead:
            return own
        found.add(id(own))
        return as_parameter(instead[id(own)].detach(), own)

    model = clone_tree(deps.model, convert)
    if found != instead.keys():
        raise InputError(
            f"{type(deps.model).__name__} cannot be repaired",
            why=f"its graph (captured by {deps.captured_by}) has copies of its tensors",
            hint="pass the graph itself: fxprune.analyze(model, inputs).graph_module",
        )
    return model
