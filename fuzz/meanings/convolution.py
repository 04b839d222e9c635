"""Convolutions, group by group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fuzz.masked import (
    ContradictionError,
    Masked,
    masked,
    must_be_whole,
    sums_nothing,
    written_out,
)
from fuzz.meanings.movement import per_channel


def _must_agree(x_gone: Tensor, lost: Tensor, kept_rows: Tensor) -> None:
    """x_gone (N, g, i), lost (g, o, i) of the weight, kept_rows (g, o)."""
    live = ~x_gone.all(-1).all(-1)  # samples that are not gone themselves
    differ = x_gone[:, :, None, :] != lost[None]
    if (differ & kept_rows[None, :, :, None] & live[:, None, None, None]).any():
        raise ContradictionError("a convolution has lost other channels than its input")


def _convolved(
    name: str,
    x: Masked,
    weight: Masked,
    bias: Any,
    groups: int,
    *,
    transposed: bool,
    **options: Any,
) -> Any:
    for dim in range(2, x.dim()):
        must_be_whole(x, dim, name)
    rows = weight.gone.flatten(2).all(2)
    kernel = rows.view(groups, -1, rows.shape[1])  # (g, o, i), or (g, i, o) if transposed
    lost = kernel.transpose(1, 2) if transposed else kernel
    gone_rows = lost.all(2)
    channels = per_channel(x).flatten(1)
    by_group = channels.view(x.shape[0], groups, -1)
    _must_agree(by_group, lost, ~gone_rows)
    data = getattr(functional, name)(x.zeroed, weight.zeroed, groups=groups, **options)
    samples = channels.all(1)[:, None] | gone_rows.flatten()[None]
    gone = samples.view(*samples.shape, *[1] * (x.dim() - 2)).expand(data.shape).contiguous()
    if sums_nothing(x, weight):
        gone = torch.zeros_like(gone)
    out: Any = Masked(data.masked_fill(gone, torch.nan), gone)
    return out if bias is None else out + masked(bias).view(-1, *[1] * (x.dim() - 2))


def _register(rank: int) -> None:
    @written_out(f"conv{rank}d")
    def convolution(
        input: Masked,
        weight: Masked,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        return _convolved(
            f"conv{rank}d", input, masked(weight), bias, groups, transposed=False, **options
        )

    @written_out(f"conv_transpose{rank}d")
    def transposed(
        input: Masked,
        weight: Masked,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        options = {
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "dilation": dilation,
        }
        return _convolved(
            f"conv_transpose{rank}d",
            input,
            masked(weight),
            bias,
            groups,
            transposed=True,
            **options,
        )


for _rank in (1, 2, 3):
    _register(_rank)
