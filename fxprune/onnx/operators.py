"""ONNX operators that are built as torch writes them, where onnx2torch's modules would not do.

onnx2torch computes shapes as tensors, at run time. Here they are Python numbers and sizes, so that
a reshape is a reshape, with a batch that stays open and shape arguments that can be repaired.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from onnx2torch.onnx_node import OnnxNode
from torch import nn

from fxprune.onnx.building import Atom, Builder, Numbers, Operator, UnsupportedError

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.floordiv,
}
_TENSOR_ARITHMETIC: dict[str, Callable[..., Any]] = {
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


def _shape(b: Builder, node: OnnxNode) -> bool:
    name = node.input_values[0]
    shape = b.shape(name)
    if shape is None:
        raise UnsupportedError(f"how many dims its input {name!r} has is not known")
    value = b.tensor(name)
    atoms = tuple(
        b.graph.call_method("size", (value, dim))
        if size is None or (dim == 0 and size == b.batch)
        else size
        for dim, size in enumerate(shape)
    )
    start, end = node.attributes.get("start", 0), node.attributes.get("end", len(shape))
    b.numbers[node.output_values[0]] = atoms[start:end]
    return True


def _identity(b: Builder, node: OnnxNode) -> bool:
    name, result = node.input_values[0], node.output_values[0]
    if (numbers := b.sizes(name)) is not None:
        b.numbers[result] = numbers
    else:
        b.nodes[result] = b.tensor(name)
    return True


def _dropout(b: Builder, node: OnnxNode) -> bool:
    return [name for name in node.output_values if name] == [node.output_values[0]] and _identity(
        b, node
    )


def _cast(b: Builder, node: OnnxNode) -> bool:
    integers = (6, 7)  # int32 and int64
    if node.input_values[0] in b.numbers and node.attributes["to"] in integers:
        return _identity(b, node)
    return False


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
        return _pick(b, data, places, result)
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


def _pick(b: Builder, data: str, places: Numbers | None, result: str) -> bool:
    """Sizes at known places of a row of them."""
    row = b.row(data)
    if isinstance(places, int):
        b.numbers[result] = row[places]
        return True
    if not isinstance(places, tuple):
        return False
    known = [place for place in places if isinstance(place, int)]
    if len(known) < len(places):
        return False
    b.numbers[result] = tuple(row[place] for place in known)
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


def _concat(b: Builder, node: OnnxNode) -> bool:
    if not any(name in b.numbers for name in node.input_values):
        return False
    rows = [b.sizes(name) for name in node.input_values]
    known = [row for row in rows if isinstance(row, tuple)]
    if len(known) < len(rows):
        return False
    b.numbers[node.output_values[0]] = tuple(atom for row in known for atom in row)
    return True


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
        found = _of_sizes(b, _ARITHMETIC.get(kind), b.sizes(left), b.sizes(right))
        if found is not None:
            b.numbers[result] = found
        return found is not None
    if node.attributes or not _floats(b, node):
        return False  # opset 6 broadcasts otherwise, and integers are divided otherwise
    rank = len(b.shape(left) or ())
    b.nodes[result] = b.call(_TENSOR_ARITHMETIC[kind], b.tensor(left), _operand(b, right, rank))
    return True


def _of_sizes(
    b: Builder, function: Callable[..., Any] | None, left: Numbers | None, right: Numbers | None
) -> Numbers | None:
    """The outcome for numbers, or for rows of them that are as long; None for anything else."""
    if function is None or left is None or right is None:
        return None
    rows = [each if isinstance(each, tuple) else (each,) for each in (left, right)]
    if len(rows[0]) != len(rows[1]):
        return None
    made: tuple[Atom, ...] = tuple(
        int(function(one, other))
        if isinstance(one, int) and isinstance(other, int)
        else b.call(function, one, other)
        for one, other in zip(*rows, strict=True)
    )
    return made if isinstance(left, tuple) or isinstance(right, tuple) else made[0]


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


def _full(b: Builder, node: OnnxNode) -> bool:
    fill = node.attributes.get("value")
    value = torch.zeros(1) if fill is None else fill.to_torch()
    made = b.call(torch.full, b.row(node.input_values[0]), value.item(), dtype=value.dtype)
    b.nodes[node.output_values[0]] = made
    return True


def _range(b: Builder, node: OnnxNode) -> bool:
    bounds = [b.sizes(name) for name in node.input_values]
    if any(bound is None or isinstance(bound, tuple) for bound in bounds):
        return False
    b.nodes[node.output_values[0]] = b.call(torch.arange, *bounds)
    return True


def _resize(b: Builder, node: OnnxNode) -> bool:
    """As torch interpolates, where the file asks for just that."""
    data, *rest = node.input_values
    rank = len(b.shape(data) or ())
    how = _interpolation(node, rank)
    if how is None or _asks_for_more(node):
        return False
    _, scales, sizes = [*rest, "", "", ""][:3]
    if sizes:
        how["size"] = b.row(sizes)[2:]
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


def _equal(b: Builder, node: OnnxNode) -> bool:
    """Whether sizes are some numbers; no size is negative."""
    left, right = (b.sizes(name) for name in node.input_values)
    if not (isinstance(left, tuple) and isinstance(right, tuple) and len(left) == len(right)):
        return False
    found = []
    for pair in zip(left, right, strict=True):
        numbers = [each for each in pair if isinstance(each, int)]
        if len(numbers) < 2 and not any(number < 0 for number in numbers):
            return False
        found.append(int(len(numbers) == 2 and numbers[0] == numbers[1]))
    b.numbers[node.output_values[0]] = tuple(found)
    return True


def _where(b: Builder, node: OnnxNode) -> bool:
    """Of rows of sizes; what `_equal` tells of sizes is a row of numbers, too."""
    rows = [b.sizes(name) for name in node.input_values]
    known = [row for row in rows if isinstance(row, tuple)]
    if len(known) < len(rows) or len({len(row) for row in known}) != 1:
        return False
    picked = [yes if which else no for which, yes, no in zip(*known, strict=True)]
    b.numbers[node.output_values[0]] = tuple(picked)
    return True


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
    "Shape": _shape,
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "Reshape": _reshape,
    "Expand": _expand,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "MatMul": _matmul,
    "LayerNormalization": _layer_norm,
    "Gelu": _gelu,
    "ConstantOfShape": _full,
    "Range": _range,
    "Resize": _resize,
    "Equal": _equal,
    "Where": _where,
    "Split": _split,
    "PRelu": _prelu,
    "Pad": _pad,
    **dict.fromkeys(_TENSOR_ARITHMETIC, _arithmetic),
    **dict.fromkeys(_REDUCTIONS, _reduce),
}
