"""The repaired original of a small model that was made of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fxprune.errors import InputError
from fxprune.module_trees import as_parameter, clone_tree, named_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    instead: dict[int, torch.Tensor] = {}
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
        instead[id(own)] = as_parameter(values, own)
    return clone_tree(deps.model, lambda tensor: instead.get(id(tensor), tensor))
