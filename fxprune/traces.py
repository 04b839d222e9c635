"""What an interpretation finds out: shapes, axes and work, node by node."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

from fxprune.labels import Axis, LabelAlgebra
from fxprune.rules import Place, axes_of, put_axes, value_of
from fxprune.values import plain, tensors
from fxprune.weight_uses import WeightUses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import fx
    from torch._ops import OpOverload

STATE_NAME = "_fxprune_state"
"""The attribute by which state tensors, and what is computed of these alone, know their name."""
GROUPED = frozenset({"aten::_grouped_mm", "transformers::grouped_mm_fallback"})
"""Products of several sizes in one, which `torch.utils.flop_counter` may lack."""


def state_name(tensor: torch.Tensor) -> str | None:
    """The name of the state tensor that a tensor is or is computed of; None for other values."""
    name: str | None = getattr(tensor, STATE_NAME, None)
    return name


@dataclass(frozen=True)
class TracedTensor:
    """What the interpretation knows of a tensor: shape, axes, type, and the value if known."""

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    value: torch.Tensor | None = None
    dtype: torch.dtype | None = None


def traced_tensors(value: Any) -> list[TracedTensor]:
    """The tensors of a node's value, in a fixed order."""
    if isinstance(value, TracedTensor):
        return [value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return []
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, TracedTensor)]


@dataclass(frozen=True)
class Renormalization:
    """An axis that an op looks across in another way than summing over it."""

    place: Place
    axis: Axis


def grouped_flops(a: Sequence[int], b: Sequence[int], *rest: Any, **options: Any) -> int:
    """A grouped product: every row (or column) that is cut meets one matrix, as in one product."""
    return 2 * math.prod(a) * b[-1] if len(a) == 2 or len(b) == 3 else 2 * math.prod(a[1:]) * b[-1]


@dataclass(frozen=True)
class Work:
    """An operator that multiplies and adds, with TracedTensors for its tensors."""

    node: str
    op: OpOverload
    args: list[Any]
    kwargs: dict[str, Any]
    out: Any

    def macs(self, shape: Callable[[TracedTensor], Sequence[int]]) -> int:
        """Multiply-accumulate operations if every tensor has the shape that `shape` tells."""

        def shapes(value: Any) -> Any:
            """Sizes are torch.Size, which the formulas take as one value, not one by one."""
            if isinstance(value, TracedTensor):
                return torch.Size(shape(value))
            if isinstance(value, (list, tuple)):
                is_size = all(type(v) is int for v in value)
                return torch.Size(value) if is_size else [shapes(v) for v in value]
            return value

        args, out = shapes(self.args), shapes(self.out)
        kwargs = {name: shapes(value) for name, value in self.kwargs.items()}
        count = flop_registry.get(self.op._overloadpacket, grouped_flops)
        formula = getattr(count, "__wrapped__", None)  # without what asks tensors for shapes
        if formula is not None:
            return int(formula(*args, **kwargs, out_shape=out)) // 2
        return int(count(*args, **kwargs, out_val=out)) // 2


def _shape_of(tensor: TracedTensor) -> tuple[int, ...]:
    """The shape that the interpretation saw."""
    return tensor.shape


@dataclass
class Trace:
    """The outcome of an interpretation.

    `values` holds, for each node, its value with every tensor replaced by a TracedTensor; `axes`
    the axes of every state tensor; `tied` the first name of every state tensor; `touched` the
    first names of those that some op read; `scales` of the parameters that batch norms scale by;
    `active` the names of the nodes that call an operator at all; `uses` what operators do with
    state tensors.
    """

    labels: LabelAlgebra
    axes: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    work: list[Work] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    scales: set[str] = field(default_factory=set)
    active: set[str] = field(default_factory=set)
    uses: WeightUses = field(default_factory=WeightUses)
    unknown: dict[OpOverload, Place] = field(default_factory=dict)
    renormalized: list[Renormalization] = field(default_factory=list)

    @cached_property
    def all_axes(self) -> Sequence[Axis]:
        """Every axis of every state tensor and value of the finished interpretation, each once."""
        found = {id(axis): axis for axes in self.axes.values() for axis in axes}
        for value in self.values.values():
            for tensor in traced_tensors(value):
                found.update((id(axis), axis) for axis in tensor.axes)
        return tuple(found.values())

    def macs(self, shape: Callable[[TracedTensor], Sequence[int]]) -> Counter[str]:
        """Multiply-accumulate operations by node, if every tensor has the shape that it is told."""
        found = Counter[str]()
        for work in self.work:
            found[work.node] += work.macs(shape)
        return found

    @cached_property
    def dense_macs(self) -> Counter[str]:
        """Those of the interpretation itself, which is finished."""
        return self.macs(_shape_of)


def snapshot(value: Any, labels: LabelAlgebra) -> Any:
    """A value with every tensor replaced by what is known of it; containers become plain ones."""
    if isinstance(value, torch.Tensor):
        axes = tuple(axes_of(value, labels))
        return TracedTensor(tuple(value.shape), axes, value_of(value), value.dtype)
    if type(value) in (list, tuple):
        return type(value)(snapshot(v, labels) for v in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return pytree.tree_map(
        lambda v: snapshot(v, labels) if isinstance(v, torch.Tensor) else v, plain(value)
    )


def label_state(trace: Trace, state: Mapping[str, torch.Tensor]) -> None:
    """Give every axis of every parameter and floating-point buffer labels of its own."""
    labels = trace.labels
    for name, tensor in state.items():
        if not hasattr(tensor, STATE_NAME):
            movable = tensor.is_floating_point() or tensor.is_complex()
            axes = [
                labels.fresh_axis(size) if movable else labels.pinned_axis(size, "integers")
                for size in tensor.shape
            ]
            put_axes(tensor, axes)
            setattr(tensor, STATE_NAME, name)
        trace.axes[name] = tuple(axes_of(tensor, labels))
        trace.tied[name] = getattr(tensor, STATE_NAME)


def label_input(trace: Trace, node: fx.Node, value: Any) -> None:
    """Pin the axes of an argument of the model, and note it."""
    reason = Place(node, None, f"input {node.name} of the model")
    for tensor in tensors(value):
        put_axes(tensor, [trace.labels.pinned_axis(size, reason) for size in tensor.shape])
    trace.values[node.name] = snapshot(value, trace.labels)


def pin_output(trace: Trace, node: fx.Node, out: Any) -> None:
    """Pin the axes of what the model returns."""
    for tensor in tensors(out):
        reason = trace.labels.place = Place(node, None, "output of the model")
        for axis in axes_of(tensor, trace.labels):
            trace.labels.pin_axis(axis, reason)
