"""Criteria: a score for every channel; the lowest go first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.errors import InputError, shown

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph

Criterion: TypeAlias = Literal["l2", "l1", "random"]
CRITERIA: tuple[Criterion, ...] = ("l2", "l1", "random")


def scores(deps: DependencyGraph, criterion: Criterion, seed: int) -> NDArray[np.float64]:
    """The score of every id.

    "l1" sums the absolute values of all weights that go with a channel, over all coupled
    parameters; "l2" is the root of the sum of their squares (Li et al., Pruning Filters for
    Efficient ConvNets, 2017, section 3.1, extended to coupled parameters); "random" is uniform.

    Raises:
        InputError: the criterion is unknown, or a parameter is not finite or has no data.
    """
    if criterion not in CRITERIA:
        raise InputError(
            f"unknown criterion {shown(criterion)}", hint=f"take one of {', '.join(CRITERIA)}"
        )
    labels = deps.trace.labels
    parameters = {
        name: tensor.detach()
        for name, tensor in deps.graph_module.named_parameters()
        if any(labels.leaves(axis) for axis in deps.trace.axes[name]) and name in deps.trace.touched
    }
    _check_values(deps)
    if criterion == "random":
        return np.random.default_rng(seed).random(len(labels))
    result = np.zeros(len(labels), dtype=np.float64)
    for name, tensor in parameters.items():
        size = _sizes(name, tensor, criterion)
        for dim, axis in enumerate(deps.trace.axes[name]):
            if vectors := labels.leaves(axis):
                others = [d for d in range(tensor.dim()) if d != dim]
                total = size.sum(others) if others else size
                for vector in vectors:
                    np.add.at(result, vector, total.double().cpu().numpy())
    return np.sqrt(result) if criterion == "l2" else result


def _sizes(name: str, tensor: torch.Tensor, criterion: Criterion) -> torch.Tensor:
    """|w| or w^2 of every weight, at least in single precision."""
    if tensor.device.type == "meta":
        raise InputError(
            f"parameter {name} has no data", hint='load the weights, or take criterion="random"'
        )
    tensor = tensor.abs() if tensor.is_complex() else tensor
    weights = tensor if tensor.dtype == torch.float64 else tensor.float()
    return weights.abs() if criterion == "l1" else weights.square()


def _check_values(deps: DependencyGraph) -> None:
    """Parameters are finite; buffers may hold infinite values (an attention mask) but no NaN."""
    known = dict(deps.graph_module.named_parameters(remove_duplicate=False))
    for name, tensor in deps.state.items():
        if not tensor.is_floating_point() or tensor.device.type == "meta":
            continue
        values = tensor.detach().float() if tensor.element_size() == 1 else tensor.detach()
        if bool(torch.isfinite(values.sum())):  # one pass without a mask, which is all it takes
            continue
        is_wrong = ~torch.isfinite(values) if name in known else torch.isnan(values)
        if bool(is_wrong.any()):
            kind, what = (
                ("parameter", "NaN or infinite values") if name in known else ("buffer", "NaN")
            )
            raise InputError(
                f"{kind} {name} contains {what}", hint="mend the weights: no plan can rank them"
            )
