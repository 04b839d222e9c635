"""Operators that make a tensor out of nothing."""

from __future__ import annotations

import torch

from fxprune.rules.call import Call
from fxprune.rules.registry import rule

aten = torch.ops.aten


@rule(
    aten.empty,
    aten.zeros,
    aten.ones,
    aten.full,
    aten.new_empty,
    aten.new_zeros,
    aten.new_ones,
    aten.new_full,
    aten.empty_strided,
    aten.new_empty_strided,
)
def constant(call: Call) -> None:
    """All positions are alike, so each can go alone."""
    call.result([call.labels.fresh_axis(size) for size in call.out.shape])


@rule(
    aten.arange,
    aten.linspace,
    aten.logspace,
    aten.eye,
    aten.rand,
    aten.randn,
    aten.randint,
    aten.randperm,
    aten.normal.float_float,
    aten.normal.float_float_out,
    aten.scalar_tensor,
    aten.tril_indices,
    aten.triu_indices,
)
def numbered(call: Call) -> None:
    """Every position has its own value: all stay."""
    call.result([call.pinned(size, f"made by {call.name}") for size in call.out.shape])
