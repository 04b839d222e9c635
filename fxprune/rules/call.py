"""One operator call, as a rule sees it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from fxprune.labels import Axis, LabelAlgebra

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch._ops import OpOverload

_AXES = "_fxprune_axes"
_VALUE = "_fxprune_value"


def axes_of(tensor: torch.Tensor, labels: LabelAlgebra) -> list[Axis]:
    """The axes that were put on a tensor; pinned ones for a tensor that nobody labelled."""
    axes: list[Axis] | None = getattr(tensor, _AXES, None)
    if axes is None or len(axes) != tensor.dim():
        axes = [labels.pinned_axis(size, "constant") for size in tensor.shape]
        setattr(tensor, _AXES, axes)
    return axes


def put_axes(tensor: torch.Tensor, axes: Sequence[Axis]) -> None:
    """Label a tensor, one axis for each of its dims."""
    if [axis.size for axis in axes] != list(tensor.shape):
        raise AssertionError(f"axes {axes} do not fit a tensor of shape {tuple(tensor.shape)}")
    setattr(tensor, _AXES, list(axes))


def value_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """The known value of an integer tensor (a permutation buffer, an `arange`), or None.

    An integer tensor with data is its own value, unless it was said to be unknown.
    """
    value: torch.Tensor | None = getattr(tensor, _VALUE, tensor)
    if value is tensor and (tensor.device.type == "meta" or tensor.is_floating_point()):
        return None
    return value


def put_value(tensor: torch.Tensor, value: torch.Tensor | None) -> None:
    """Remember the value of an integer tensor that has no data; None: it depends on the inputs."""
    setattr(tensor, _VALUE, value)


def written(op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors that an operator writes into."""
    targets = []
    for position, argument in enumerate(op._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            is_given = position < len(args)
            targets.append(args[position] if is_given else kwargs.get(argument.name))
    return tensors_in(targets)


@cache
def _signature(op: OpOverload) -> dict[str, tuple[int, Any]]:
    return {
        argument.name: (position, argument.default_value if argument.has_default_value() else None)
        for position, argument in enumerate(op._schema.arguments)
    }


def tensors_in(values: Iterable[Any]) -> list[torch.Tensor]:
    """Tensors among values and, as operators take and return them, in lists of values."""
    found = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += tensors_in(value)
        elif type(value) is not int and isinstance(value, torch.Tensor):  # sizes are many
            found.append(value)
    return found


class Call:
    """An operator call: its arguments by schema name, its outputs, and the labels of both."""

    __slots__ = ("_operands", "args", "kwargs", "labels", "op", "out")

    def __init__(
        self,
        labels: LabelAlgebra,
        op: OpOverload,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        out: Any = None,
    ) -> None:
        self.labels = labels
        self.op = op
        self.out = out
        self.take(args, kwargs)

    def take(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Set the arguments."""
        self.args = args
        self.kwargs = kwargs
        self._operands: tuple[torch.Tensor, ...] | None = None

    @property
    def name(self) -> str:
        """The operator's name without namespace, overload and in-place mark."""
        return str(self.op._schema.name.split("::")[1].rstrip("_"))

    def arg(self, name: str) -> Any:
        """An argument by its name in the operator's schema, or its default."""
        position, default = _signature(self.op)[name]
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def has(self, name: str) -> bool:
        """Whether the operator's schema has an argument of that name."""
        return name in _signature(self.op)

    def replaced(self, /, **changes: Any) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments with some of them replaced."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for name, value in changes.items():
            position, _ = _signature(self.op)[name]
            if position < len(args):
                args[position] = value
            else:
                kwargs[name] = value
        return args, kwargs

    def axes(self, tensor: str | torch.Tensor) -> list[Axis]:
        """The axes of a tensor, or of the argument of that name."""
        return axes_of(self.arg(tensor) if isinstance(tensor, str) else tensor, self.labels)

    def dim(self, name: str = "dim", of: str = "self") -> int:
        """A dim argument, counted from the front."""
        rank = self.arg(of).dim()
        return int(self.arg(name)) % rank if rank else 0

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All tensors among the arguments."""
        if self._operands is None:
            self._operands = tuple(tensors_in([*self.args, *self.kwargs.values()]))
        return self._operands

    def outputs(self) -> list[torch.Tensor]:
        """All tensors among the outputs."""
        return tensors_in([self.out])

    def result(self, axes: Sequence[Axis]) -> None:
        """Label every output of the same shape with these axes; pin the axes of the others."""
        for out in self.outputs():
            if [axis.size for axis in axes] == list(out.shape):
                self.label(out, axes)
            else:
                self.label(out, [self.labels.pinned_axis(size) for size in out.shape])

    def label(self, out: torch.Tensor, axes: Sequence[Axis]) -> None:
        """Label an output. What is written into an operand is one with what was there before."""
        is_operand = any(operand is out for operand in self.tensors())
        if is_operand and torch.Tag.inplace_view not in self.op.tags:
            for old, new in zip(self.axes(out), axes, strict=True):
                if old.size == new.size:  # `out=` may have been resized
                    self.labels.unify(old, new)
        put_axes(out, axes)

    def pin(self, axes: Sequence[Axis], what: str, hint: str = "") -> None:
        """Forbid the removal of positions of these axes, and say why."""
        reason = self.labels.place.because(what, hint)
        for axis in axes:
            self.labels.pin_axis(axis, reason)

    def pinned(self, size: int, what: str = "") -> Axis:
        """A pinned axis, with the reason."""
        place = self.labels.place
        return self.labels.pinned_axis(size, place.because(what) if what else None)
