"""Averages: the rows of a softmax sum to one, so the average of a constant is that constant.

What is known of a tensor is noted on it, and holds until something is written into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from fxprune.values import tensors

if TYPE_CHECKING:
    from fxprune.rules import Call

Fact: TypeAlias = Literal["unmasked", "weights"]
"""What is known of all rows of a tensor: minus infinity is not all of it, or they sum to one."""

aten = torch.ops.aten
_NAME = "_fxprune_rows"
_SAME = 1e-10
"""How far numbers that are the same may be apart, relative to the largest."""
_KEEP_ROWS = frozenset({"view", "_unsafe_view", "expand", "clone", "native_dropout", "_to_copy"})
"""Operators that keep the rows of their first operand, if these stay as long as they are."""


def note(call: Call, out: Any) -> None:
    """Note what is known of the outcome of an operator."""
    first = next(iter(tensors(out)), None)
    if first is None or not first.dim() or first.is_inference():
        return
    if (fact := _fact(call, first)) is not None:
        setattr(first, _NAME, (fact, first._version))


def _fact(call: Call, out: torch.Tensor) -> Fact | None:
    """What is known of the rows of an outcome.

    1. Products of finite numbers are unmasked, also with a known mask added that leaves something
       of every row.
    2. A softmax along rows makes weights; of a row that is all masked `_safe_softmax` makes zeros.
    3. Operators that keep rows keep what is known of them.
    """
    operands = call.tensors()
    if call.op in (aten.bmm.default, aten.mm.default):
        return None if any(bool(t.isinf().any()) for t in operands) else "unmasked"
    if call.op is aten.add.Tensor and len(operands) == 2:
        pairs = (operands, operands[::-1])
        return "unmasked" if any(_known(a) and _leaves_some(b) for a, b in pairs) else None
    if call.name in ("_softmax", "_safe_softmax"):
        is_row = call.arg("dim") % out.dim() == out.dim() - 1
        is_sure = call.name == "_softmax" or _known(operands[0]) is not None
        return "weights" if is_row and is_sure else None
    if call.name in _KEEP_ROWS and operands[0].shape[-1:] == out.shape[-1:]:
        return _known(operands[0])
    return None


def _known(tensor: torch.Tensor) -> Fact | None:
    """What was noted of a tensor, if nothing was written into it since."""
    fact, version = getattr(tensor, _NAME, (None, 0))
    return fact if fact is not None and version == tensor._version else None


def _leaves_some(mask: torch.Tensor) -> bool:
    return bool(mask.isfinite().any(-1).all()) if mask.dim() else bool(mask.isfinite())


def averaged(call: Call, out: torch.Tensor) -> torch.Tensor:
    """The outcome of a product, with the constants that it is an average of.

    Only where what is summed over has no labels, so that none of the weights can be removed.
    """
    weights, values = (call.arg(name) for name in ("self", "mat2"))
    if _known(weights) != "weights" or call.labels.leaves(call.axes("self")[-1]):
        return out
    largest, smallest = values.amax(-2, keepdim=True), values.amin(-2, keepdim=True)
    limit = _SAME * torch.maximum(largest.abs(), smallest.abs())
    return torch.where(largest - smallest <= limit, values.narrow(-2, 0, 1), out)
