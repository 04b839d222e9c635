"""Convolutions of any rank: plain, grouped, depthwise, transposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fxprune.rules.call import Call
from fxprune.rules.registry import rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.labels import Axis, LabelAlgebra

aten = torch.ops.aten
KERNEL_AXIS = "kernel axis of a convolution"


@rule(aten.convolution, aten.convolution_overrideable, sums={"input": 1})
def convolution(call: Call) -> None:
    """Input (N, C, ...), weight (O, C / groups, ...), or (C, O / groups, ...) if transposed.

    1. One group: the input's channels are the weight's input axis; the output's are its other.
    2. Grouped: C and O are read as (group, channel of the group). A group goes in and out as a
       whole; a channel of the input's group is the weight's input axis.
    3. Transposed and grouped: C lies on dim 0 of the weight, (group, channel of the group); the
       output merges the groups with dim 1.

    A depthwise convolution is case 2 with one channel a group. Spatial and kernel axes stay.
    """
    x, weight = call.axes("input"), call.axes("weight")
    groups: int = call.arg("groups")
    call.pin(weight[2:], KERNEL_AXIS)
    call.pin(x[2:], "axis that a convolution slides over")
    if call.arg("transposed"):
        call.labels.unify(x[1], weight[0])
        out = transposed_channels(call.labels, weight, groups)
    else:
        out = plain_channels(call, x[1], weight, groups)
    if call.arg("bias") is not None:
        call.labels.unify(call.axes("bias")[0], out)
    spatial = call.out.shape[2:]
    call.result([x[0], out, *[call.pinned(size) for size in spatial]])


def plain_channels(call: Call, channels: Axis, weight: list[Axis], groups: int) -> Axis:
    """Couple the channels of a convolution's input and weight; the channels of its outcome."""
    labels = call.labels
    if groups == 1:
        labels.unify(channels, weight[1])
        return weight[0]
    size_in, size_out = channels.size // groups, weight[0].size // groups
    group_in, inner = labels.split(channels, groups, size_in)
    group_out, _ = labels.split(weight[0], groups, size_out, prefer_rows=size_in == 1)
    labels.unify(group_in, group_out)
    labels.unify(inner, weight[1])
    return weight[0]


def transposed_channels(labels: LabelAlgebra, weight: Sequence[Axis], groups: int) -> Axis:
    """The channels that a transposed convolution makes: the groups, merged with dim 1."""
    if groups == 1:
        return weight[1]
    group, _ = labels.split(weight[0], groups, weight[0].size // groups)
    return labels.merge([group, weight[1]])
