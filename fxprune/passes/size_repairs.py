"""Repairs of sizes: shapes, numbers of groups, and the sizes of pieces."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from fxprune.passes.repair import Change, Repair, operation
from fxprune.traces import TracedTensor


def sizes(first: int) -> Change:
    """A repair of sizes that begin at an argument, as a list or one by one."""

    def change(repair: Repair) -> bool:
        return _set_sizes(repair, first, repair.outputs[0])

    return change


def _set_sizes(repair: Repair, first: int, output: TracedTensor, start: int = 0) -> bool:
    names = ("shape", "size", "sizes", "dims", "unflattened_size")
    listed = repair.argument(first, *names)
    is_list = isinstance(listed, (list, tuple))
    given = list(listed) if is_list else list(repair.node.args[first:])
    old = output.shape[start : start + len(given)]
    new = repair.layout.shape(output)[start : start + len(given)]
    if len(given) == 1 and isinstance(given[0], fx.Node) and not is_list and len(output.shape) > 1:
        return _set_from_tuple(repair, first, given[0], output)
    wrong = [k for k, (o, n) in enumerate(zip(old, new, strict=True)) if o != n]
    fixed = list(given)
    for k in wrong:
        fixed[k] = _size(repair, given, k, old[k], new[k], is_only_one=len(wrong) == 1)
    if fixed == given:
        return False
    if is_list:
        return repair.set(first, names, type(listed)(fixed))
    repair.node.args = (*repair.node.args[:first], *fixed)
    return True


def _size(
    repair: Repair, given: Sequence[Any], k: int, old: int, new: int, *, is_only_one: bool
) -> Any:
    """What a wrong size becomes: worked out by torch, scaled, or the new number.

    A computed size can hold other factors (a batch, a resolution), which must stay dynamic.
    """
    size = given[k]
    if isinstance(size, int):
        return -1 if size == -1 else new
    name = operation(repair.node, repair.graph_module)
    if is_only_one and -1 not in given and name in ("view", "_unsafe_view", "reshape"):
        return -1
    return _scaled(repair, size, new, old)


def _scaled(repair: Repair, size: fx.Node, new: int, old: int) -> fx.Node:
    """A computed number times new / old."""
    graph = repair.node.graph
    with graph.inserting_before(repair.node):
        return graph.call_function(
            operator.floordiv, (graph.call_function(operator.mul, (size, new)), old)
        )


def _set_from_tuple(repair: Repair, first: int, shape: fx.Node, output: TracedTensor) -> bool:
    """`x.view(y.shape)`: unpack the tuple and replace the sizes that changed."""
    new = repair.layout.shape(output)
    with repair.node.graph.inserting_before(repair.node):
        sizes = [
            n if n != o else repair.node.graph.call_function(operator.getitem, (shape, i))
            for i, (o, n) in enumerate(zip(output.shape, new, strict=True))
        ]
    repair.node.args = (*repair.node.args[:first], tuple(sizes))
    return True


def unflatten(repair: Repair) -> bool:
    """`unflatten(x, dim, sizes)`."""
    return _set_sizes(repair, 2, repair.outputs[0], repair.dim(1))


def repeat(repair: Repair) -> bool:
    """`repeat(x, n1, n2, ...)`: copies of a single position can go."""
    listed = repair.argument(1, "repeats", "dims", "sizes")
    is_list = isinstance(listed, (list, tuple))
    given = list(listed) if is_list else list(repair.node.args[1:])
    new_out, new_in = repair.layout.shape(repair.outputs[0]), repair.layout.shape(repair.operand)
    offset = len(new_out) - len(new_in)
    fixed = [
        n if d < offset else n // new_in[d - offset]
        for d, n in enumerate(new_out[len(new_out) - len(given) :], len(new_out) - len(given))
    ]
    values = [g if repair.original(g) == f else f for g, f in zip(given, fixed, strict=True)]
    if is_list:
        return repair.set(1, ("repeats", "dims", "sizes"), type(listed)(values))
    repair.node.args = (repair.node.args[0], *values)
    return True


def repeat_interleave(repair: Repair) -> bool:
    """`repeat_interleave(x, n, dim)`: some of the n copies of every position can go."""
    new_out = repair.layout.shape(repair.outputs[0])
    new_in = repair.layout.shape(repair.operand)
    dim = repair.argument(2, "dim")
    dims = slice(None) if dim is None else slice(dim % len(new_in), dim % len(new_in) + 1)
    repeats = math.prod(new_out[dims]) // math.prod(new_in[dims])
    named = "output_size" in repair.node.kwargs  # it follows from the others
    repair.node.kwargs = {k: v for k, v in repair.node.kwargs.items() if k != "output_size"}
    return repair.set(1, ("repeats",), repeats) or named


def normalized_shape(repair: Repair) -> bool:
    """A layer norm over the kept width."""
    count = len(repair.original(repair.argument(1, "normalized_shape")))
    shape = repair.layout.shape(repair.operand)
    return repair.set(1, ("normalized_shape",), tuple(shape[len(shape) - count :]))


def conv_groups(position: int, *, transposed: bool = False) -> Change:
    """The groups of a functional convolution, given as that argument."""

    def change(repair: Repair) -> bool:
        is_transposed = transposed
        if position == 8:  # aten.convolution tells by an argument
            is_transposed = bool(repair.argument(6, "transposed"))
        weight = repair.original(repair.argument(1, "weight"))
        wide = repair.outputs[0] if is_transposed else repair.original(repair.argument(0, "input"))
        channels = len(wide.shape) - len(weight.shape) + 1  # 0 for an image without a batch
        groups = repair.layout.shape(wide)[channels] // repair.layout.shape(weight)[1]
        given = repair.argument(position, "groups", default=1)
        before = repair.original(given)
        if groups == before:
            return False
        is_dynamic = isinstance(given, fx.Node)  # it can hold other factors, such as the batch
        value = _scaled(repair, given, groups, before) if is_dynamic else groups
        return repair.set(position, ("groups",), value)

    return change


def norm_groups(position: int) -> Change:
    """One group for each channel stays so."""

    def change(repair: Repair) -> bool:
        channels = repair.operand.shape[1]
        if repair.original(repair.argument(position, "num_groups", "group")) != channels:
            return False
        return repair.set(position, ("num_groups",), repair.layout.shape(repair.operand)[1])

    return change


def native_group_norm(repair: Repair) -> bool:
    """aten.native_group_norm names the channels besides the groups."""
    changed = norm_groups(6)(repair)
    return repair.set(4, ("C",), repair.layout.shape(repair.operand)[1]) or changed


def attention_scale(repair: Repair) -> bool:
    """The default scale is that of the original width."""
    return _keep_scale(repair, repair.argument(6, "scale"))


def fused_attention_scale(repair: Repair) -> bool:
    """As `attention_scale`, for the operators of devices, where it is a keyword."""
    return _keep_scale(repair, repair.node.kwargs.get("scale"))


def _keep_scale(repair: Repair, given: Any) -> bool:
    if given is not None or not repair.is_pruned(-1):
        return False
    repair.node.update_kwarg("scale", repair.operand.shape[-1] ** -0.5)
    return True


def squeeze(repair: Repair) -> bool:
    """An axis that has shrunk to one position is not one to squeeze."""
    given = repair.argument(1, "dim")
    rank = len(repair.operand.axes)
    dims = range(rank) if given is None else [given] if isinstance(given, int) else list(given)
    right = tuple(d % rank for d in dims if repair.operand.shape[d] == 1)
    if repair.node.op == "call_function" and not callable(
        getattr(repair.node.target, "_schema", None)
    ):
        repair.node.target = torch.squeeze
    repair.node.args, repair.node.kwargs = (repair.node.args[0], right), {}
    return True


def pieces(repair: Repair) -> bool:
    """`chunk` and `split` name sizes: from now on the predicted ones."""
    position = 2
    dim = repair.dim(position)
    sizes = [repair.layout.shape(piece)[dim] for piece in repair.outputs]
    repair.node.op, repair.node.target = "call_function", torch.split
    repair.node.args, repair.node.kwargs = (repair.node.args[0], sizes, dim), {}
    return True
