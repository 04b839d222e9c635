"""Numbers that a graph reads off sizes: which axes they measure."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import fx

from fxprune.interpretation import TracedTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.labels import Axis
    from fxprune.planning import Layout

_PRODUCTS = ("numel", "nelement", "prod")


def read_axes(node: fx.Node, layout: Layout) -> Sequence[Axis] | None:
    """The axes whose sizes a number is the product of, or None if it is something else.

    Covers `x.shape[i]`, `x.size(i)`, `x.numel()`, and `numel` or `prod` of (a slice of) a shape.
    """
    name = _name(node)
    if name in _PRODUCTS or name in ("size", "sym_size"):
        return _measured(node, layout)
    if node.target is operator.getitem and isinstance(node.args[1], int):
        axes = _measured(node.args[0], layout)
        return None if axes is None else [axes[node.args[1]]]
    return None


def _measured(node: object, layout: Layout) -> Sequence[Axis] | None:
    """The axes that a size, a shape or a slice of a shape tells of."""
    if not isinstance(node, fx.Node) or not node.all_input_nodes:
        return None
    source = node.all_input_nodes[0]
    tensor = layout.value(source.name)
    name = _name(node)
    if isinstance(tensor, TracedTensor):
        if name in ("size", "sym_size") and len(node.args) > 1 and isinstance(node.args[1], int):
            return [tensor.axes[node.args[1]]]
        reads = name in ("size", *_PRODUCTS[:2]) or "shape" in node.args
        return tensor.axes if reads and not node.kwargs else None
    if node.target is operator.getitem and isinstance(node.args[1], slice):
        axes = _measured(source, layout)
        piece = node.args[1]
        fixed = all(not isinstance(p, fx.Node) for p in (piece.start, piece.stop, piece.step))
        return axes[piece] if axes is not None and fixed else None
    return _measured(source, layout) if name in _PRODUCTS else None


def _name(node: fx.Node) -> str:
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target._schema.name.split("::")[1])
    return str(getattr(node.target, "__name__", node.target))


def is_channels_only(axis: Axis, layout: Layout) -> bool:
    """Whether every position has its own label: nothing like a batch or a row is merged in."""
    vectors = layout.deps.trace.labels.expand(axis.vectors, keep_pinned=True)
    if not vectors:
        return False
    return len(np.unique(np.stack(vectors), axis=1).T) == axis.size
