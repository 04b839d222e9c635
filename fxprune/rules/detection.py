"""Operators of torchvision, which need not be installed: rules by name."""

from __future__ import annotations

from fxprune.rules.call import Call
from fxprune.rules.convolution import KERNEL_AXIS, plain_channels
from fxprune.rules.registry import rule_by_name


@rule_by_name("torchvision::roi_align", "torchvision::roi_pool")
def roi_align(call: Call) -> None:
    """(N, C, H, W) and boxes (K, 5) -> (K, C, h, w): channels and boxes pass."""
    x, boxes = call.axes("input"), call.axes("rois")
    call.pin([x[0], *x[2:]], f"{call.name} reads this axis at places that boxes name")
    call.pin(boxes[1:], "the numbers of a box")
    sizes = call.outputs()[0].shape[2:]
    call.result([boxes[0], x[1], *[call.pinned(size) for size in sizes]])


@rule_by_name("torchvision::ps_roi_align", "torchvision::ps_roi_pool")
def ps_roi_align(call: Call) -> None:
    """(N, C h w, H, W) -> (K, C, h, w): each place reads channels of its own.

    The channels stay, because the operator also returns their numbers.
    """
    boxes = call.axes("rois")
    call.pin([*call.axes("input"), *boxes[1:]], f"{call.name} reads this axis by number")
    sizes = call.outputs()[0].shape[1:]
    call.result([boxes[0], *[call.pinned(size) for size in sizes]])


@rule_by_name("torchvision::nms")
def nms(call: Call) -> None:
    """The numbers of the boxes that are picked: boxes stay."""
    call.pin([*call.axes("dets"), *call.axes("scores")], "nms returns the numbers of boxes")
    call.result([call.pinned(call.out.shape[0])])


@rule_by_name("torchvision::deform_conv2d", sums={"input": 1})
def deform_conv2d(call: Call) -> None:
    """A convolution that reads at offsets; each offset group takes equally many channels."""
    x, weight = call.axes("input"), call.axes("weight")
    call.pin([*weight[2:], *x[2:]], KERNEL_AXIS)
    offset_groups = call.arg("offset_groups")
    if offset_groups > 1:
        rows, _ = call.labels.split(x[1], offset_groups, x[1].size // offset_groups)
        call.pin([rows], "a group of channels with an offset of its own")
    out = plain_channels(call, x[1], weight, call.arg("groups"))
    call.labels.unify(call.axes("bias")[0], out)
    for name in ("offset", "mask") if call.arg("use_mask") else ("offset",):
        others = call.axes(name)
        call.labels.unify(x[0], others[0])
        call.pin(others[1:], "offsets of a convolution")
    call.result([x[0], out, *[call.pinned(size) for size in call.out.shape[2:]]])
