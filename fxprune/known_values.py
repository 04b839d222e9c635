"""Integers that follow from constants, on tensors that have no data.

A model without data still computes with positions, sizes and masks of these, and may read one as a
Python number. So integer tensors on the meta device can carry their value, and operators on such
tensors are run for real, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

from fxprune.rules import put_value, tensors_in, value_of, written
from fxprune.values import tensors

if TYPE_CHECKING:
    from torch._ops import OpOverload

Run: TypeAlias = "Callable[[OpOverload, Any, Any], Any]"
"""Runs an operator on its positional and keyword arguments."""
LARGEST_KNOWN = 1 << 20
"""Larger integer tensors do not keep their values."""
_INTEGERS = (torch.int64, torch.int32, torch.bool, torch.int16, torch.int8, torch.uint8)
_BY_VALUE = frozenset((torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output))
"""Of operators that cannot run without data."""


def call(op: OpOverload, args: Any, kwargs: Any) -> Any:
    """Run an operator."""
    return op(*args, **kwargs)


def follows_from_constants(
    op: OpOverload, operands: Sequence[torch.Tensor], dtype: torch.dtype | None
) -> bool:
    """Whether an operator computes integers from integers that are known, or from nothing.

    Args:
        op: the operator.
        operands: the tensors that it takes.
        dtype: what it is told to make.
    """
    if any(t.is_floating_point() for t in operands):
        return False
    if torch.Tag.nondeterministic_seeded in op.tags:
        return False
    if not operands and dtype not in (None, *_INTEGERS):
        return False
    return all(t.numel() <= LARGEST_KNOWN and value_of(t) is not None for t in operands)


def computed(op: OpOverload, args: Any, kwargs: Mapping[str, Any], run: Run = call) -> Any:
    """What an operator returns for the values of its operands, which are known.

    Returns:
        Tensors with data; None if they are no integers, or too large.
    """
    kwargs = dict(kwargs)
    if "device" in kwargs:
        kwargs["device"] = torch.device("cpu")
    if tensors_in([*args, *kwargs.values()]):
        args, kwargs = pytree.tree_map(
            lambda v: value_of(v) if isinstance(v, torch.Tensor) else v, (args, kwargs)
        )
    with torch.utils._python_dispatch._disable_current_modes():
        out = run(op, args, kwargs)
    if any(t.is_floating_point() or t.numel() > LARGEST_KNOWN for t in tensors(out)):
        return None
    return out


def note_outcome(op: OpOverload, out: Any, known: Any) -> None:
    """Note what is known of an operator's outcome: its values, or that they depend on data."""
    if known is not None:
        for tensor, value in zip(tensors(out), tensors(known), strict=False):
            put_value(tensor, value)
    elif op._schema.is_mutable:
        forget_values(out)


def forget_values(out: Any) -> None:
    """What an operator computed of data is unknown, even if it wrote into what was known."""
    for tensor in tensors(out):
        if not tensor.is_floating_point():
            put_value(tensor, None)


def on_meta(value: Any) -> Any:
    """A tensor of the same shape and type without data, which knows its value if it is integers."""
    if not isinstance(value, torch.Tensor) or value.device.type == "meta":
        return value
    with torch.utils._python_dispatch._disable_current_modes():
        shadow = torch.empty_like(value, device="meta")
        if not value.is_floating_point() and value.numel() <= LARGEST_KNOWN:
            put_value(shadow, value.clone())
    return shadow


def _integers_on_meta(value: Any) -> Any:
    is_tensor = isinstance(value, torch.Tensor)
    return value if is_tensor and value.dtype not in _INTEGERS else on_meta(value)


def is_without_data(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operator takes a tensor on the meta device, or is to make one there."""
    device = kwargs.get("device")
    if isinstance(device, torch.device) and device.type == "meta":
        return True
    return any(t.is_meta for t in tensors_in([*args, *kwargs.values()]))


def run_without_data(op: OpOverload, args: Any, kwargs: Any, run: Run = call) -> Any:
    """Run an operator of which `is_without_data` holds, and all that is known for real, too.

    Integers with data are taken to the meta device, unless the operator writes into some; other
    operands on two devices are an error of the model. What is known has data again once it is moved
    to the CPU.
    """
    if all(target.is_meta for target in written(op, args, kwargs)):
        args, kwargs = pytree.tree_map(_integers_on_meta, (tuple(args), dict(kwargs)))
    operands, known = tensors_in([*args, *kwargs.values()]), None
    if follows_from_constants(op, operands, kwargs.get("dtype")):
        known = computed(op, args, kwargs, run)
        if known is not None and kwargs.get("device") == torch.device("cpu"):
            return known
        if known is not None and not _BY_VALUE.isdisjoint(op.tags):
            return pytree.tree_map(on_meta, known)
    out = run(op, args, kwargs)
    note_outcome(op, out, known)
    return out
