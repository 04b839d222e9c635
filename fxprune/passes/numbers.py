"""Numbers that a graph reads off sizes: which axes they measure."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from fxprune.traces import TracedTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if name in ("size", "sym_size") and isinstance(dim, int):
            return [tensor.axes[dim]]
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


def measures_channels_only(node: fx.Node, axis: Axis, layout: Layout) -> bool:
    """Whether a number that was read off an axis can count nothing but channels.

    1. Every position has its own label: no batch or row is merged in.
    2. No axis of one position took part in a reshape on the way: it might have been merged in (a
       batch of one in the example inputs), and another time it may have more positions.
    """
    vectors = layout.deps.trace.labels.roots(axis)
    if not vectors:
        return False
    distinct = len(np.unique(np.stack(vectors), axis=1).T) == axis.size
    return distinct and not any(_reshapes_single_axis(n, layout) for n in _ancestors(node))


def _ancestors(node: fx.Node) -> Iterator[fx.Node]:
    seen, pending = {node}, [node]
    while pending:
        current = pending.pop()
        yield current
        pending += (new := set(current.all_input_nodes) - seen)
        seen |= new


def _reshapes_single_axis(node: fx.Node, layout: Layout) -> bool:
    """Whether a node gives elements another shape where one axis has one position only."""
    operands = [t.shape for n in node.all_input_nodes for t in layout.tensors(n.name)]
    return any(
        1 in operand and operand != out.shape and math.prod(operand) == math.prod(out.shape)
        for operand in operands
        for out in layout.tensors(node.name)
    )


def replace_by_number(user: fx.Node, node: fx.Node, number: Any) -> None:
    """Let a node take a number in the place of another node."""

    def swap(argument: fx.Node) -> Any:
        return number if argument is node else argument

    user.args = fx.map_arg(user.args, swap)
    user.kwargs = fx.map_arg(user.kwargs, swap)
