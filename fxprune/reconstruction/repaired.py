"""The repaired original: the analyzed model with other values of some tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import fx

from fxprune.errors import InputError
from fxprune.module_trees import as_parameter, clone_tree, tensor_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from torch import nn

    from fxprune.analysis import DependencyGraph
    from fxprune.comparison import Claim
    from fxprune.planning import Layout


def with_tensors(deps: DependencyGraph, tensors: Mapping[str, torch.Tensor]) -> DependencyGraph:
    """The same analysis, of a copy of the model that shares all tensors but some with it.

    Args:
        deps: the analysis.
        tensors: what is there instead, by the names that the graph has for them.

    Raises:
        InputError: the model does not have them, because the graph has copies of its tensors.
    """
    instead = {
        id(deps.state[n]): as_parameter(t.detach(), deps.state[n]) for n, t in tensors.items()
    }
    found: set[int] = set()

    def convert(own: torch.Tensor) -> torch.Tensor:
        found.add(id(own))
        return instead.get(id(own), own)

    model = clone_tree(deps.model, convert)
    if not instead.keys() <= found:
        raise InputError(
            f"{type(deps.model).__name__} cannot be repaired",
            why=f"its graph (captured by {deps.captured_by}) has copies of its tensors",
            hint="pass the graph itself: fxprune.analyze(model, inputs).graph_module",
        )
    if isinstance(model, fx.GraphModule) and deps.model is deps.graph_module:
        return replace(deps, model=model, graph_module=model)
    return replace(deps, model=model, graph_module=clone_tree(deps.graph_module, convert))


def with_tensors_of(
    small: nn.Module, deps: DependencyGraph, layout: Layout, names: Iterable[str]
) -> DependencyGraph:
    """The same, where some tensors are, at kept positions, those of a small model.

    Args:
        small: what was made of the repaired original.
        deps: the analysis of the original.
        layout: what stays of it.
        names: of the tensors that were repaired.

    Raises:
        InputError: one of the models has no such tensor, or it has another size.
    """
    tensors = {}
    for name in names:
        own, new, index = deps.state.get(name), tensor_at(small, name), _kept(deps, layout, name)
        if own is None or new is None or tuple(new.shape) != tuple(map(len, index)):
            raise InputError(
                f"{name} was repaired, as the report of the shrunk model says, and one of the"
                " models has no such tensor, or it has another size",
                hint="pass what fxprune.shrink returned, and the original",
            )
        values = own.detach().clone()
        values[np.ix_(*index)] = new.detach().to(values)
        tensors[name] = values
    return with_tensors(deps, tensors)


def changed_tensors(small: nn.Module, claim: Claim) -> list[str]:
    """The tensors of a small model that are not, at kept positions, what they are in the original.

    Where constants are folded into biases nothing is told, as these differ by right.
    """
    deps, found = claim.deps, []
    for name, own in deps.state.items() if claim.meaning.constants == "drop" else ():
        new, index = tensor_at(small, name), _kept(deps, claim.layout, name)
        if new is None or new.is_meta or tuple(new.shape) != tuple(map(len, index)):
            continue
        kept = own.detach()[np.ix_(*index)]
        if kept.is_floating_point() and not torch.equal(kept, new.detach().to(kept)):
            found.append(name)
    return found


def _kept(deps: DependencyGraph, layout: Layout, name: str) -> list[NDArray[np.int64]]:
    """The kept positions on the axes of a stored tensor."""
    axes = deps.trace.axes.get(name, ())
    kept = [layout.kept(axis) for axis in axes]
    index = (np.arange(a.size) if k is None else k for a, k in zip(axes, kept, strict=True))
    return [np.ascontiguousarray(each) for each in index]
