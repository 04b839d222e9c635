"""The latency of a candidate, predicted from the times of its operators."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from fxprune.errors import InputError, in_one_line, shown
from fxprune.op_calls import OpCall, Operand, op_calls, replaced
from fxprune.planning.axis_sizes import AxisSizes
from fxprune.planning.op_times import OpTimes, Shaped
from fxprune.rules import Call

if TYPE_CHECKING:
    import os

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Ids, LabelAlgebra

Sizes: TypeAlias = tuple[int, ...]
"""The sizes of the free axes of a call, in the order of their numbers."""
OpCost: TypeAlias = Callable[[str, list[Sizes]], float]
"""From an operator's name and the shapes of the tensors that it takes and returns to its cost."""
aten = torch.ops.aten
_PIECES = 8
"""Operators are measured at every eighth of the dense width."""


class PredictedLatency:
    """What the operators of a model take after a removal, added up.

    Without a cost function each operator is measured on this machine, alone and on random tensors,
    at eighths of the dense width of every axis that can be pruned, when a candidate first needs it;
    in between it is interpolated: linearly along up to two axes, and for more of them (a
    concatenation) by the number of elements that are read and written. An operator that cannot be
    run so counts by its elements too, and not at all if it cannot be run at the dense widths.

    Args:
        deps: the analysis.
        cost: takes an operator's name, such as "aten::convolution", and the shapes of the tensors
            that it takes and returns; returns what it costs, in any unit. Then nothing is measured.
        folder: where measured times are kept, the user's cache folder by default.

    Raises:
        AnalysisError: the graph cannot be interpreted again.
    """

    def __init__(
        self,
        deps: DependencyGraph,
        cost: OpCost | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        calls, self._labels = op_calls(deps)
        axes = [axis for call in calls for operand in call.operands() for axis in operand.axes]
        self._sizes = AxisSizes(axes, self._labels)
        self._cost = _checked(cost) if cost is not None else None
        self._times = OpTimes(device_of(deps), folder) if cost is None else None
        self._calls = [_FreeCall.of(call, self._sizes, self._labels) for call in calls]
        self._known: dict[tuple[int, Sizes], float] = {}

    def __call__(self, removed: Ids) -> float:
        """The cost without some ids, in the unit of the cost function, or in yardsticks.

        Raises:
            InputError: the cost function fails, or returns no cost.
        """
        mask = np.zeros(len(self._labels), dtype=np.bool_)
        mask[self._labels.find(removed)] = True
        sizes = self._sizes.of(mask).tolist()
        try:
            return sum(
                self._one(k, tuple(sizes[number] for number in call.numbers))
                for k, call in enumerate(self._calls)
            )
        finally:  # whatever ends it early, what was measured is kept
            if self._times is not None:
                self._times.save()

    def _one(self, k: int, sizes: Sizes) -> float:
        if (k, sizes) not in self._known:
            call = self._calls[k]
            if self._cost is not None:
                found = self._cost(call.name, call.shapes(sizes))
            else:
                assert self._times is not None
                found = _interpolated(call, sizes, self._times)
            self._known[k, sizes] = found
        return self._known[k, sizes]


@dataclass(frozen=True)
class _FreeCall:
    """A call, and the numbers and dense sizes of those of its axes that can lose positions."""

    call: OpCall
    operands: Sequence[Operand]
    numbers: Sizes
    dense: Sizes
    labels: LabelAlgebra
    number_of: Callable[[Any], int | None]

    @classmethod
    def of(cls, call: OpCall, sizes: AxisSizes, labels: LabelAlgebra) -> _FreeCall:
        operands = call.operands()
        free = {
            number: axis.size
            for operand in operands
            for axis in operand.axes
            if (number := sizes.number(axis)) is not None
        }
        return cls(call, operands, tuple(free), tuple(free.values()), labels, sizes.number)

    @property
    def name(self) -> str:
        return str(self.call.op._schema.name)

    def shape(self, operand: Operand, sizes: Sizes) -> Sizes:
        """The shape of an operand for some sizes of the free axes."""
        of = dict(zip(self.numbers, sizes, strict=True))
        numbers = [(axis, self.number_of(axis)) for axis in operand.axes]
        return tuple(axis.size if n is None else of[n] for axis, n in numbers)

    def shapes(self, sizes: Sizes) -> list[Sizes]:
        return [self.shape(operand, sizes) for operand in self.operands]

    def elements(self, sizes: Sizes) -> int:
        """How many elements are read and written."""
        return sum(map(math.prod, self.shapes(sizes)))

    def arguments(self, sizes: Sizes) -> tuple[list[Any], dict[str, Any]]:
        """The arguments at some sizes; numbers among them that are widths follow."""

        def made(value: Any) -> Any:
            if not isinstance(value, Operand):
                return value
            return Shaped(self.shape(value, sizes), value.dtype, value.order)

        call = Call(self.labels, self.call.op, self.call.args, self.call.kwargs)
        follow = _WIDTHS.get(call.op)
        changes = {}
        if follow is not None:
            first = call.arg("input")
            changes = follow(call, lambda name: self.shape(call.arg(name), sizes), first.axes)
        args, kwargs = call.replaced(**changes)
        return replaced(args, made), replaced(kwargs, made)


def _interpolated(call: _FreeCall, sizes: Sizes, times: OpTimes) -> float:
    """The time of a call, from those at the next smaller and larger widths of the grid."""
    dense = times.of(call.call.op, *call.arguments(call.dense))
    if dense is None:
        return 0.0

    def at(point: Sizes) -> float:
        found = times.of(call.call.op, *call.arguments(point))
        if found is None:
            return dense * call.elements(point) / max(1, call.elements(call.dense))
        return found

    grids = [_grid(size) for size in call.dense]
    if len(sizes) > 2:
        diagonal = list(zip(*grids, strict=True))
        elements = [call.elements(point) for point in diagonal]
        cell = _between(elements, call.elements(sizes))
        return sum(part * at(diagonal[k]) for k, part in cell)
    cells = [_between(grid, size) for grid, size in zip(grids, sizes, strict=True)]
    return sum(
        math.prod(part for _, part in corner)
        * at(tuple(grid[k] for grid, (k, _) in zip(grids, corner, strict=True)))
        for corner in product(*cells)
    )


def _grid(dense: int) -> list[int]:
    """The widths at which operators are measured, of an axis of a dense width.

    >>> _grid(64)
    [1, 8, 16, 24, 32, 40, 48, 56, 64]
    """
    return [max(1, math.ceil(dense * k / _PIECES)) for k in range(_PIECES + 1)]


def _between(grid: Sequence[int], size: int) -> list[tuple[int, float]]:
    """The places of a grid around a size, and the part that each has; those without are left out.

    >>> _between([1, 8, 16], 10)
    [(1, 0.75), (2, 0.25)]
    >>> _between([1, 8, 16], 8)
    [(1, 1.0)]
    """
    size = min(max(size, grid[0]), grid[-1])
    low = bisect_right(grid, size) - 1
    if grid[low] == size:
        return [(low, 1.0)]
    part = (size - grid[low]) / (grid[low + 1] - grid[low])
    return [(low, 1 - part), (low + 1, part)]


def _groups(call: Call, shape: Callable[[str], Sizes], dense: Sequence[Any]) -> dict[str, Any]:
    groups = int(call.arg("groups"))
    if groups > 1 and call.arg("transposed"):
        return {"groups": max(1, groups * shape("input")[1] // dense[1].size)}
    return {"groups": shape("input")[1] // max(1, shape("weight")[1])} if groups > 1 else {}


_WIDTHS: dict[Any, Callable[..., dict[str, Any]]] = {
    aten.convolution.default: _groups,
    aten.native_layer_norm.default: lambda call, shape, dense: {
        "normalized_shape": list(shape("input")[-len(call.arg("normalized_shape")) :])
    },
    aten.native_group_norm.default: lambda call, shape, dense: {
        "C": shape("input")[1],
        "HxW": math.prod(shape("input")[2:]),
    },
}
"""Operators that are told widths beside tensors: which numbers follow, and how."""


def device_of(deps: DependencyGraph) -> torch.device:
    """The device of most of the model's tensors; meta tensors stand for ones of the CPU."""
    devices = Counter(tensor.device for tensor in deps.state.values())
    device = devices.most_common(1)[0][0] if devices else torch.device("cpu")
    return torch.device("cpu") if device.type == "meta" else device


def _checked(cost: Any) -> OpCost:
    """A user's cost function, whose failures and outcomes are refused with what they are for."""
    if not callable(cost):
        raise InputError(
            f"cost is {shown(cost)}", hint="pass a function of an operator's name and shapes"
        )

    def checked(name: str, shapes: list[Sizes]) -> float:
        try:
            value = cost(name, shapes)
        except Exception as error:
            raise InputError(
                f"the cost function fails: {in_one_line(error)}",
                where=f"{name} of shapes {shown(shapes)}",
                hint="let it return 0 for operators that cost nothing",
            ) from error
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < math.inf:  # type: ignore[operator]  # mypy does not know how Real compares
            raise InputError(
                f"the cost function returns {shown(value)}",
                where=f"{name} of shapes {shown(shapes)}",
                hint="let it return a finite number of at least 0",
            )
        return float(value)

    return checked
