"""ONNX operators that are built as torch writes them, where onnx2torch's modules would not do.

Their shape arguments are numbers and sizes (see `sizes`), so a batch stays open, and shape
arguments can be repaired when channels go.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from onnx2torch.onnx_node import OnnxNode
from torch import nn

from fxprune.onnx.building import Builder, Operator
from fxprune.onnx.sizes import SIZE_OPERATORS, combined, identity, picked

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
}
_ENDLESS = (1 << 31) - 1
"""Slices end at a number like this if they go to the end."""
_PADDING = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceSum": torch.sum,
    "ReduceMean": torch.mean,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL2": torch.norm,
}


def _dropout(b: Builder, node: OnnxNode) -> bool:
    return [name for name in node.output_values if name] == [node.output_values[0]] and identity(
        b, node
    )


def _reshape(b: Builder, node: OnnxNode) -> bool:
    data, target = node.input_values
    wanted = list(b.row(target))
    if data in b.numbers and wanted in ([-1], [1]):  # of a number a row, of a row itself
        numbers = b.numbers[data]
        b.numbers[node.output_values[0]] = numbers if isinstance(numbers, tuple) else (numbers,)
        return True
    value, shape = b.tensor(data), b.shape(data) or (None,)
    for dim, size in enumerate(wanted):
        kept = size == 0 and not node.attributes.get("allowzero", 0)
        if kept or (dim == 0 and size == b.batch == shape[0]):
            wanted[dim] = b.graph.call_method("size", (value, dim))
    b.nodes[node.output_values[0]] = b.call(torch.reshape, value, tuple(wanted))
    return True


def _expand(b: Builder, node: OnnxNode) -> bool:
    data, target = node.input_values
    shape = b.shape(data)
    if shape is None:
        return False
    sizes = b.row(target)
    rank = max(len(sizes), len(shape))
    sizes, new = (1,) * (rank - len(sizes)) + sizes, rank - len(shape)
    wanted = [  # -1 keeps a size: ONNX lets either side be one
        -1 if size == 1 or own not in {None, 1} else size
        for size, own in zip(sizes[new:], shape, strict=True)
    ]
    b.nodes[node.output_values[0]] = b.graph.call_method(
        "expand", (b.tensor(data), *sizes[:new], *wanted)
    )
    return True


def _gather(b: Builder, node: OnnxNode) -> bool:
    (data, index), result = node.input_values, node.output_values[0]
    axis, shape, places = node.attributes.get("axis", 0), b.shape(data), b.sizes(index)
    if data in b.numbers:
        return picked(b, data, places, result)
    if axis < 0 and shape is None:
        return False
    axis = axis + len(shape or ()) if axis < 0 else axis
    table = b.constant(data)
    if table is not None and table.dim() == 2 and table.is_floating_point() and axis == 0:
        module = nn.Embedding(table.shape[0], table.shape[1], device="meta")
        module.weight = b.parameter(data, table)
        b.nodes[result] = b.module(node, module, index)
        return True
    at = places if isinstance(places, int) else b.tensor(index)
    b.nodes[result] = b.call(operator.getitem, b.tensor(data), (*[slice(None)] * axis, at))
    return True


def _slice(b: Builder, node: OnnxNode) -> bool:
    (data, *_), result = node.input_values, node.output_values[0]
    shape = b.shape(data)
    cuts = _cuts(b, node)
    if isinstance(numbers := b.numbers.get(data), tuple):
        (_, cut), *_ = cuts
        if all(part is None or isinstance(part, int) for part in (cut.start, cut.stop)):
            b.numbers[result] = numbers[cut]
            return True
    if shape is None or any(cut.step < 0 for _, cut in cuts):
        return False
    whole = [slice(None)] * len(shape)
    for axis, cut in cuts:
        whole[axis] = cut
    b.nodes[result] = b.call(operator.getitem, b.tensor(data), tuple(whole))
    return True


def _cuts(b: Builder, node: OnnxNode) -> list[tuple[int, slice]]:
    """The axes that a node cuts, and where: attributes up to opset 9, inputs since."""
    if len(node.input_values) == 1:
        starts, ends = (tuple(node.attributes[name]) for name in ("starts", "ends"))
        axes, steps = node.attributes.get("axes"), None
    else:
        starts, ends = (b.row(name) for name in node.input_values[1:3])
        given = [b.fixed(name) if name else None for name in node.input_values[3:]]
        axes, steps = [*given, None, None][:2]
    found = []
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        endless = isinstance(end, int) and abs(end) >= _ENDLESS
        step = steps[k] if steps else 1
        found.append((axes[k] if axes else k, slice(start, None if endless else end, step)))
    return found


def _axes(b: Builder, node: OnnxNode) -> tuple[int, ...] | None:
    """The axes of a node, which are an attribute in old opsets and an input in new ones."""
    if len(node.input_values) > 1 and node.input_values[1]:
        return b.fixed(node.input_values[1])
    found = node.attributes.get("axes")
    return None if found is None else tuple(found)


def _unsqueeze(b: Builder, node: OnnxNode) -> bool:
    data, result = node.input_values[0], node.output_values[0]
    axes = _axes(b, node) or ()
    number = b.numbers.get(data)
    if number is not None and not isinstance(number, tuple) and axes == (0,):
        b.numbers[result] = (number,)
        return True
    shape = b.shape(data)
    if shape is None and any(axis < 0 for axis in axes):
        return False
    rank = len(shape or ()) + len(axes)
    value = b.tensor(data)
    for axis in sorted(axis % rank if axis < 0 else axis for axis in axes):
        value = b.call(torch.unsqueeze, value, axis)
    b.nodes[result] = value
    return True


def _squeeze(b: Builder, node: OnnxNode) -> bool:
    data, result = node.input_values[0], node.output_values[0]
    axes = _axes(b, node)
    numbers = b.numbers.get(data)
    if isinstance(numbers, tuple) and len(numbers) == 1:
        b.numbers[result] = numbers[0]
        return True
    if axes is None:
        return False
    b.nodes[result] = b.call(torch.squeeze, b.tensor(data), tuple(axes))
    return True


def _arithmetic(b: Builder, node: OnnxNode) -> bool:
    """Of sizes, of a tensor and a number, or of two tensors."""
    (left, right), result = node.input_values, node.output_values[0]
    kind = node.operation_type
    if left in b.numbers or right in b.numbers:
        found = combined(b, kind, b.sizes(left), b.sizes(right))
        if found is not None:
            b.numbers[result] = found
        return found is not None
    if node.attributes or not _floats(b, node):
        return False  # opset 6 broadcasts otherwise, and integers are divided otherwise
    rank = len(b.shape(left) or ())
    b.nodes[result] = b.call(_ARITHMETIC[kind], b.tensor(left), _operand(b, right, rank))
    return True


def _floats(b: Builder, node: OnnxNode) -> bool:
    """Whether a node computes with floating-point numbers."""
    info = b.onnx.value_info.get(node.output_values[0])
    return info is not None and info.type.tensor_type.elem_type in {1, 10, 11, 16}


def _operand(b: Builder, name: str, rank: int) -> Any:
    """A tensor, or its number if it has one element and as many dims as it may."""
    value = b.constant(name)
    if value is not None and value.numel() == 1 and value.dim() <= rank:
        return value.item()
    return b.tensor(name)


def _reduce(b: Builder, node: OnnxNode) -> bool:
    axes = _axes(b, node)
    shape = b.shape(node.input_values[0])
    if not axes:
        if shape is None or node.attributes.get("noop_with_empty_axes", 0):
            return False
        axes = tuple(range(len(shape)))
    keep = bool(node.attributes.get("keepdims", 1))
    value = b.tensor(node.input_values[0])
    function = _REDUCTIONS[node.operation_type]
    b.nodes[node.output_values[0]] = b.call(function, value, dim=tuple(axes), keepdim=keep)
    return True


def _matmul(b: Builder, node: OnnxNode) -> bool:
    """With a constant matrix on the right it is a linear layer."""
    data, name = node.input_values
    weight = b.constant(name)
    if weight is None or weight.dim() != 2 or not weight.is_floating_point():
        return False
    if data in b.onnx.initializers or len(b.shape(data) or ()) < 2:
        return False
    module = nn.Linear(weight.shape[0], weight.shape[1], bias=False, device="meta")
    module.weight = b.parameter(f"{name} transposed", weight.T.contiguous())
    b.nodes[node.output_values[0]] = b.module(node, module, data)
    return True


def _layer_norm(b: Builder, node: OnnxNode) -> bool:
    data, scale, *rest = node.input_values
    weight, bias = b.constant(scale), b.constant(rest[0]) if rest and rest[0] else None
    shape, axis = b.shape(data), node.attributes.get("axis", -1)
    if weight is None or shape is None or len([n for n in node.output_values if n]) > 1:
        return False
    first = axis % len(shape)
    if weight.dim() != len(shape) - first or (rest and rest[0] and bias is None):
        return False
    epsilon = node.attributes.get("epsilon", 1e-5)
    module = nn.LayerNorm(tuple(weight.shape), eps=epsilon, bias=bias is not None)
    module.weight = nn.Parameter(weight)
    if bias is not None:
        module.bias = nn.Parameter(bias)
    b.nodes[node.output_values[0]] = b.module(node, module, data)
    return True


def _gelu(b: Builder, node: OnnxNode) -> bool:
    kind = node.attributes.get("approximate", "none")
    value = b.tensor(node.input_values[0])
    b.nodes[node.output_values[0]] = b.call(F.gelu, value, approximate=kind)
    return True


def _resize(b: Builder, node: OnnxNode) -> bool:
    """As torch interpolates, where the file asks for just that."""
    data, *rest = node.input_values
    shape = b.shape(data) or ()
    how = _interpolation(node, len(shape))
    if how is None or _asks_for_more(node):
        return False
    _, scales, sizes = [*rest, "", "", ""][:3]
    if sizes:
        row = b.row(sizes)
        pairs = zip(row[:2], shape[:2], strict=True)
        if any(isinstance(size, int) and size != own for size, own in pairs):
            return False  # the batch or the channels are resized, too
        how["size"] = row[2:]
    else:
        factors = b.constant(scales)
        if factors is None or factors.tolist()[:2] != [1, 1]:
            return False
        how["scale_factor"] = tuple(factors.tolist()[2:])
    b.nodes[node.output_values[0]] = b.call(F.interpolate, b.tensor(data), **how)
    return True


def _asks_for_more(node: OnnxNode) -> bool:
    plain = {"antialias": 0, "exclude_outside": 0, "keep_aspect_ratio_policy": "stretch"}
    return "axes" in node.attributes or any(
        node.attributes.get(name, value) != value for name, value in plain.items()
    )


def _interpolation(node: OnnxNode, rank: int) -> dict[str, Any] | None:
    """The mode of torch's interpolation that is a node's, if there is one."""
    modes = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear"}
    modes |= {("cubic", 4): "bicubic", **{("nearest", n): "nearest" for n in (3, 4, 5)}}
    given = node.attributes
    mode = modes.get((given.get("mode", "nearest"), rank))
    places = given.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        floor = given.get("nearest_mode") == "floor"
        return {"mode": "nearest"} if places == "asymmetric" and floor else None
    align = {"align_corners": True, "half_pixel": False, "pytorch_half_pixel": False}
    if (
        mode is None
        or places not in align
        or (mode == "bicubic" and given.get("cubic_coeff_a", -0.75) != -0.75)
    ):
        return None
    return {"mode": mode, "align_corners": align[places]}


def _split(b: Builder, node: OnnxNode) -> bool:
    data, *rest = node.input_values
    axis, shape = node.attributes.get("axis", 0), b.shape(data)
    parts: int | tuple[int, ...]
    if rest and rest[0]:
        parts = b.fixed(rest[0])
    elif "split" in node.attributes:
        parts = tuple(node.attributes["split"])
    elif shape is not None and (size := shape[axis]) is not None:
        parts = -(-size // node.attributes.get("num_outputs", len(node.output_values)))
    else:
        return False
    if len(node.output_values) < 2:
        return False
    b.results(node, b.call(torch.split, b.tensor(data), parts, axis))
    return True


def _prelu(b: Builder, node: OnnxNode) -> bool:
    value, slope = b.tensor(node.input_values[0]), b.tensor(node.input_values[1], "PRelu")
    positive = b.call(torch.ge, value, 0)
    b.nodes[node.output_values[0]] = b.call(
        torch.where, positive, value, b.call(torch.mul, value, slope)
    )
    return True


def _pad(b: Builder, node: OnnxNode) -> bool:
    data, *rest = node.input_values
    pads, fill, axes = [*rest, "", "", ""][:3]
    mode = _PADDING.get(node.attributes.get("mode", "constant"))
    ends = b.fixed(pads) if pads else tuple(node.attributes.get("pads", ()))
    if axes or mode is None or not ends:
        return False
    half = len(ends) // 2
    pairs = [ends[dim::half] for dim in reversed(range(half))]
    while pairs and not any(pairs[-1]):
        pairs.pop()  # torch pads the last dims
    value: dict[str, Any] = {}
    if mode == "constant":
        number = b.constant(fill) if fill else None
        value["value"] = node.attributes.get("value", 0.0) if number is None else number.item()
    flat = tuple(end for pair in pairs for end in pair)
    b.nodes[node.output_values[0]] = b.call(F.pad, b.tensor(data), flat, mode=mode, **value)
    return True


OPERATORS: dict[str, Operator] = {
    **SIZE_OPERATORS,
    "Dropout": _dropout,
    "Reshape": _reshape,
    "Expand": _expand,
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Pad": _pad,
    "Resize": _resize,
    "MatMul": _matmul,
    "LayerNormalization": _layer_norm,
    "Gelu": _gelu,
    "PRelu": _prelu,
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    **dict.fromkeys(_REDUCTIONS, _reduce),
}
