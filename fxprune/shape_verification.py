"""Proof without data: every node of the shrunk graph has the shape that the labels predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx, nn

from fxprune.errors import VerificationError
from fxprune.inputs import materialize
from fxprune.meta_kernels import MetaMode
from fxprune.module_trees import clone_tree, named_tensors, to_meta
from fxprune.rules import locate
from fxprune.stepping import RESULT, Stepper
from fxprune.values import tensors

if TYPE_CHECKING:
    from fxprune.comparison import Claim
    from fxprune.errors import Location

_REMEDY = "pass the model that was shrunk from this original by this plan"


def check_shapes(claim: Claim, small: nn.Module, *, known_parts: bool) -> int:
    """Compare shapes with those that follow from the labels of the original and the plan alone.

    Args:
        claim: the original and what stays of it.
        small: the shrunk model, which is not changed.
        known_parts: whether it is a graph whose nodes are named as the original's; if so, it is
            run on meta tensors, and every node is checked. Else tensors are, by their names.

    Returns:
        How many tensors were checked.

    Raises:
        VerificationError: a shape is another; names the tensor or the node.
    """
    count = 0
    axes, layout = claim.deps.trace.axes, claim.layout
    for name, tensor in named_tensors(small).items():
        if name in axes:
            predicted = tuple(layout.size(axis) for axis in axes[name])
            module = name.rpartition(".")[0]
            where = f"module {module}" if module else ""
            _require(name, where, tuple(tensor.shape), predicted)
            count += 1
    if known_parts:
        assert isinstance(small, fx.GraphModule)
        count += _check_nodes(claim, small)
    return count


def _check_nodes(claim: Claim, small: fx.GraphModule) -> int:
    count = 0
    known = {node.name for node in claim.deps.graph_module.graph.nodes}
    values = list(materialize(claim.deps.inputs, seed=None))
    shadow = clone_tree(small, to_meta)
    with torch.no_grad():
        for node, value in Stepper(RESULT, shadow, values, MetaMode()):
            if node.name not in known or node.op in ("placeholder", "output"):
                continue
            got = [tuple(tensor.shape) for tensor in tensors(value)]
            predicted = [claim.layout.shape(t) for t in claim.layout.tensors(node.name)]
            _require(f"node {node.name}", locate(node), got, predicted)
            count += len(got)
    return count


def _require(name: str, where: Location | str, got: object, predicted: object) -> None:
    if got != predicted:
        raise VerificationError(
            f"{name} has shape {got} instead of {predicted}",
            where=where,
            why="that is what the labels and the plan predict",
            hint=_REMEDY,
        )
