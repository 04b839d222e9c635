"""ONNX operators on sizes: shapes that are read, taken apart and put together again.

onnx2torch computes them as tensors, at run time. Here they are Python numbers, and nodes where a
size is open, as `x.size(0)` in torch's own code.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from onnx2torch.onnx_node import OnnxNode

from fxprune.onnx.building import Atom, Builder, Numbers, Operator, UnsupportedError

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.floordiv,
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


def identity(b: Builder, node: OnnxNode) -> bool:
    """Of anything."""
    name, result = node.input_values[0], node.output_values[0]
    if (numbers := b.sizes(name)) is not None:
        b.numbers[result] = numbers
    else:
        b.nodes[result] = b.tensor(name)
    return True


def _cast(b: Builder, node: OnnxNode) -> bool:
    integers = (6, 7)  # int32 and int64
    if node.input_values[0] in b.numbers and node.attributes["to"] in integers:
        return identity(b, node)
    return False


def _concat(b: Builder, node: OnnxNode) -> bool:
    if not any(name in b.numbers for name in node.input_values):
        return False
    rows = [b.sizes(name) for name in node.input_values]
    known = [row for row in rows if isinstance(row, tuple)]
    if len(known) < len(rows):
        return False
    b.numbers[node.output_values[0]] = tuple(atom for row in known for atom in row)
    return True


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
    if not all(isinstance(which, int) for which in known[0]):
        return False
    picked = [yes if which else no for which, yes, no in zip(*known, strict=True)]
    b.numbers[node.output_values[0]] = tuple(picked)
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


def picked(b: Builder, data: str, places: Numbers | None, result: str) -> bool:
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


def combined(b: Builder, kind: str, left: Numbers | None, right: Numbers | None) -> Numbers | None:
    """The outcome for numbers, or for rows of them that are as long; None for anything else."""
    function = _ARITHMETIC.get(kind)
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


SIZE_OPERATORS: dict[str, Operator] = {
    "Shape": _shape,
    "Identity": identity,
    "Cast": _cast,
    "Concat": _concat,
    "Equal": _equal,
    "Where": _where,
    "ConstantOfShape": _full,
    "Range": _range,
}
