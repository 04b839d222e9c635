"""The operators that a model runs, with the axes of all that they take and return."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._ops import OpOverload

from fxprune.errors import AnalysisError
from fxprune.inputs import materialize
from fxprune.interpretation import interpret
from fxprune.label_mode import LabelMode
from fxprune.labels import LabelAlgebra
from fxprune.rules import Call, axes_of
from fxprune.traces import Trace, TracedTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Axis

_FREE = frozenset({torch.ops.aten._unsafe_view.default, torch.ops.aten._local_scalar_dense.default})
"""What takes no time beside those whose schema tells that they return a view."""


@dataclass(frozen=True)
class Operand:
    """A tensor that an operator takes or returns.

    Attributes:
        axes: its axes.
        dtype: its type.
        order: its dims from the outermost to the innermost in memory.
    """

    axes: tuple[Axis, ...]
    dtype: torch.dtype
    order: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class OpCall:
    """A call of an operator, with an Operand for every tensor."""

    op: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def operands(self) -> list[Operand]:
        """The tensors that it takes, in the order of the arguments, then those that it returns."""
        return list(_operands([self.args, list(self.kwargs.values()), self.out]))


def op_calls(deps: DependencyGraph) -> tuple[list[OpCall], LabelAlgebra]:
    """The operators that run when a model does, but for views, which take no time.

    The graph is interpreted once more, which takes about as long as `analyze` and gives every axis
    the same ids; of a model that was recorded the calls are known.

    Returns:
        The calls, and the labels of their axes.

    Raises:
        AnalysisError: the graph cannot be interpreted again, or turns out otherwise.
    """
    known = deps.trace.labels
    if deps.captured.recording is not None:
        return list(_recorded(deps)), known
    mode = _Noting(Trace(LabelAlgebra()))
    interpret(deps.graph_module, materialize(deps.inputs, seed=None), mode)
    if len(mode.labels) != len(known) or not mode.labels.agrees_with(known):
        raise AnalysisError("interpreting the model again couples other channels than before")
    return mode.calls, mode.labels


class _Noting(LabelMode):
    """Notes every call of an operator."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self.calls: list[OpCall] = []

    def end(self, call: Call) -> None:
        """An operator has run."""
        if call.tensors() and takes_time(call.op):
            args, kwargs, out = (
                replaced(value, self._operand)
                for value in (tuple(call.args), dict(call.kwargs), call.out)
            )
            self.calls.append(OpCall(call.op, args, kwargs, out))

    def _operand(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        strides = value.stride()
        order = tuple(sorted(range(value.dim()), key=lambda dim: -strides[dim]))
        return Operand(tuple(axes_of(value, self.labels)), value.dtype, order)


def takes_time(op: OpOverload) -> bool:
    """Whether an operator computes anything."""
    return not op.is_view and op not in _FREE


def _recorded(deps: DependencyGraph) -> Iterator[OpCall]:
    """The calls of a recorded model, whose graph has a node for each; memory is taken to be dense.

    What a node returns is known, not how it lies in memory.
    """
    values = deps.trace.values
    for node in deps.graph_module.graph.nodes:
        op = node.target
        if node.op != "call_function" or not isinstance(op, OpOverload) or not takes_time(op):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values.get(n.name))
        out = replaced(values.get(node.name), _dense)
        call = OpCall(op, replaced(args, _dense), replaced(dict(kwargs), _dense), out)
        if list(_operands([call.args, list(call.kwargs.values())])):
            yield call


def _dense(value: Any) -> Any:
    if not isinstance(value, TracedTensor):
        return value
    return Operand(value.axes, value.dtype or torch.float32, tuple(range(len(value.axes))))


def replaced(value: Any, function: Callable[[Any], Any]) -> Any:
    """A value with what is in its lists, tuples and dicts replaced."""
    if isinstance(value, dict):
        return {key: replaced(item, function) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(replaced(item, function) for item in value)
    if isinstance(value, list):
        return [replaced(item, function) for item in value]
    return function(value)


def _operands(value: Any) -> Iterator[Operand]:
    if isinstance(value, Operand):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _operands(item)
