"""The latency of a candidate, predicted from the times of its operators."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from fxprune.errors import InputError, in_one_line, shown
from fxprune.op_calls import OpCall, Operand, op_calls, replaced
from fxprune.planning.axis_sizes import AxisSizes
from fxprune.planning.host_widths import Multiples, host_multiples, roles
from fxprune.planning.interpolation import Sizes, TimeGrid
from fxprune.planning.op_times import OpTimes, Shaped
from fxprune.rules import Call

if TYPE_CHECKING:
    import os

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Ids, LabelAlgebra

OpCost: TypeAlias = Callable[[str, list[Sizes]], float]
"""From an operator's name and the shapes of the tensors that it takes and returns to its cost."""
aten = torch.ops.aten


class PredictedLatency:
    """What the operators of a model take after a removal, added up.

    Without a cost function each operator is measured on this machine, alone and on random tensors,
    when a candidate first needs it: at eighths of the dense width of every axis that can be pruned,
    and where the machine works in steps, at widths within one (see `TimeGrid`); in between it is
    interpolated. An operator that cannot be run at some widths counts by its elements there, and
    not at all if it cannot be run at the dense widths.

    Args:
        deps: the analysis.
        cost: takes an operator's name, such as "aten::convolution", and the shapes of the tensors
            that it takes and returns; returns what it costs, in any unit. Then nothing is measured.
        folder: where measured times are kept, the user's cache folder by default.
        multiples: the steps that operators work in, measured on this machine by default; with
            none of them times are taken to be straight lines between the eighths.

    Raises:
        AnalysisError: the graph cannot be interpreted again.
    """

    def __init__(
        self,
        deps: DependencyGraph,
        cost: OpCost | None = None,
        folder: str | os.PathLike[str] | None = None,
        *,
        multiples: Multiples | None = None,
    ) -> None:
        calls, self._labels = op_calls(deps)
        axes = [axis for call in calls for operand in call.operands() for axis in operand.axes]
        self._sizes = AxisSizes(axes, self._labels)
        self._cost = _checked(cost) if cost is not None else None
        self._times = None
        if cost is None:
            device = device_of(deps)
            if multiples is None:
                multiples = host_multiples(device, dtype_of(deps), folder)
            self._times = OpTimes(device, folder)
        self._calls = [
            FreeCall.of(call, self._sizes, self._labels, multiples or {}) for call in calls
        ]
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
                found = call.times(self._times)(sizes)
            self._known[k, sizes] = found
        return self._known[k, sizes]


@dataclass(frozen=True)
class FreeCall:
    """A call, and the numbers and dense sizes of those of its axes that can lose positions.

    `multiples` are those that suit the sizes, see `TimeGrid`.
    """

    call: OpCall
    operands: Sequence[Operand]
    numbers: Sizes
    dense: Sizes
    multiples: Sizes
    labels: LabelAlgebra
    number_of: Callable[[Any], int | None]

    @classmethod
    def of(
        cls, call: OpCall, sizes: AxisSizes, labels: LabelAlgebra, multiples: Multiples
    ) -> FreeCall:
        """A call with what is free of it."""
        operands = call.operands()
        free = {
            number: axis.size
            for operand in operands
            for axis in operand.axes
            if (number := sizes.number(axis)) is not None
        }
        steps: dict[int | None, int] = {}
        for axis, role in roles(call):
            number = sizes.number(axis)
            steps[number] = max(steps.get(number, 1), multiples.get(role, 1))
        suiting = tuple(steps.get(number, 1) for number in free)
        dense = tuple(free.values())
        return cls(call, operands, tuple(free), dense, suiting, labels, sizes.number)

    @property
    def name(self) -> str:
        """The operator's, such as "aten::convolution"."""
        return str(self.call.op._schema.name)

    def shape(self, operand: Operand, sizes: Sizes) -> Sizes:
        """The shape of an operand for some sizes of the free axes."""
        of = dict(zip(self.numbers, sizes, strict=True))
        numbers = [(axis, self.number_of(axis)) for axis in operand.axes]
        return tuple(axis.size if n is None else of[n] for axis, n in numbers)

    def shapes(self, sizes: Sizes) -> list[Sizes]:
        """The shapes of all operands."""
        return [self.shape(operand, sizes) for operand in self.operands]

    def times(self, times: OpTimes) -> TimeGrid:
        """The times of the call at any sizes of the free axes."""
        return TimeGrid(
            self.dense,
            self.multiples,
            lambda sizes: times.of(self.call.op, *self.arguments(sizes)),
            self.elements,
        )

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


def dtype_of(deps: DependencyGraph) -> torch.dtype:
    """The type of most of the model's floating-point tensors."""
    types = Counter(t.dtype for t in deps.state.values() if t.is_floating_point())
    return types.most_common(1)[0][0] if types else torch.float32


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
