"""Channels of torchvision's networks that were zeroed at random go, and nothing changes.

They are zeroed in three ways: all that makes them (filters, biases, norms, embeddings); nothing but
the scale of a batch norm, whose shift stays; and all that reads them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import DependencyGraph, Group, Plan

torchvision = pytest.importorskip("torchvision")
models = torchvision.models
Expected = dict[str, set[int]]
Shifts = dict[str, dict[float, bool]]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def random_numbers(model: nn.Module) -> Any:
    """The model in float64 and eval mode, its norms like those of a trained one."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "token" in name:
            nn.init.normal_(parameter, std=0.1)
    return model.double().eval()


def is_read(model: nn.Module, member: Any) -> bool:
    """Whether a parameter axis is the one over which a convolution or linear layer sums."""
    tensor = model.get_parameter(member.parameter) if "running" not in member.parameter else None
    return tensor is not None and member.dim == 1 and tensor.dim() in (2, 4)


@torch.no_grad()
def zero(model: nn.Module, group: Group, channel: int, *, readers: bool) -> None:
    """Zero all that makes a channel, or all that reads it."""
    for member in group.members:
        if "running" in member.parameter or is_read(model, member) != readers:
            continue
        tensor = model.get_parameter(member.parameter)
        tensor.index_fill_(member.dim, torch.tensor(member.positions[channel]), 0)


@torch.no_grad()
def still(model: nn.Module, norm: str, position: int, shift: float) -> None:
    """Make a batch norm emit nothing but its shift at a position."""
    model.get_parameter(f"{norm}.weight")[position] = 0
    model.get_parameter(f"{norm}.bias")[position] = shift


def zeroed(model: nn.Module, deps: DependencyGraph, shifts: Shifts) -> Expected:
    """Zero channels of every group at random; those that can go.

    Args:
        model: the model, which is changed.
        deps: its analysis.
        shifts: batch norm -> shifts of channels whose scale is zero -> whether these can go.
    """
    draw = np.random.default_rng(0)
    expected: Expected = defaultdict(set)
    for group in deps.groups:
        if not group.prunable or group.kind == "head_dims":
            continue
        norms = {
            member.parameter.removesuffix(".weight"): member
            for member in group.members
            if member.parameter.removesuffix(".weight") in shifts
        }
        drawn = iter(draw.permutation(group.size).tolist())
        for norm, member in norms.items():
            for shift, goes in shifts[norm].items():
                channel = next(drawn)
                still(model, norm, member.positions[channel][0], shift)
                expected[group.name] |= {channel} if goes else set()
        channel = next(drawn)
        zero(model, group, channel, readers=False)
        expected[group.name].add(channel)
        channel = next(drawn)
        zero(model, group, channel, readers=True)
        is_seen = any("ln" in member.parameter for member in group.members)  # by statistics
        expected[group.name] |= set() if is_seen else {channel}
    return {name: channels for name, channels in expected.items() if channels}


def shrunk(model: Any, inputs: Tensor, shifts: Shifts) -> Any:
    """The model without the channels that can go, of which there are exactly the expected ones."""
    expected = zeroed(model, fxprune.analyze(model, inputs), shifts)
    plan = Plan.from_masks(model, inputs)
    found = {name: set(group.removed) for name, group in plan.groups.items() if group.removed}
    assert found == expected
    small = fxprune.shrink(model, plan, inputs, norm="exact", constants="fold", verify="quick")
    report = small.meta["fxprune"]
    assert report.after.parameters < report.before.parameters
    return small


def same(small: Any, model: Any, inputs: Tensor) -> None:
    with torch.no_grad():
        expected, got = model(inputs), small(inputs)
    assert (expected - got).abs().max() <= 1e-11 * expected.abs().max()


def test_a_resnet_18_shrinks_losslessly() -> None:
    """A positive shift stays: the next convolution pads what is not zero."""
    model = random_numbers(models.resnet18(num_classes=10))
    inner = [f"layer{k}.{b}.bn1" for k in (1, 2, 3, 4) for b in (0, 1)]
    small = shrunk(model, IMAGES, {norm: {-1.0: True, 1.0: False} for norm in inner})
    same(small, model, IMAGES)
    same(small, model, torch.randn(1, 3, 80, 48, dtype=torch.float64))


@pytest.mark.slow
def test_a_densenet_121_shrinks_losslessly() -> None:
    """What convolutions of one tap read goes with any shift."""
    model = random_numbers(models.densenet121(num_classes=10))
    names = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    inner = [name for name in names if name.endswith("norm2")]
    small = shrunk(model, IMAGES, {norm: {-1.0: True, 1.0: False} for norm in inner})
    same(small, model, IMAGES)
    same(small, model, torch.randn(1, 3, 80, 48, dtype=torch.float64))


def test_a_mobilenet_v2_shrinks_losslessly() -> None:
    """A shift before a depthwise convolution meets padding; behind it nothing does."""
    model = random_numbers(models.mobilenet_v2(num_classes=10))
    for block in model.features[2:18]:  # so that no activation hides what differs at the border
        block.conv[1][0].weight.data.abs_()
        block.conv[1][1].running_mean.zero_()
        block.conv[1][1].bias.data.fill_(0.5)
    before = {f"features.{k}.conv.0.1": {-1.0: True, 1.0: False} for k in range(2, 18)}
    behind = {f"features.{k}.conv.1.1": {-1.0: True, 1.0: True} for k in range(2, 18)}
    small = shrunk(model, IMAGES, before | behind)
    same(small, model, IMAGES)
    same(small, model, torch.randn(1, 3, 80, 48, dtype=torch.float64))


def test_a_vision_transformer_shrinks_losslessly() -> None:
    """What statistics see stays though nothing reads it; heads and hidden channels go."""
    model = random_numbers(
        models.VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=2,
            num_heads=4,
            hidden_dim=32,
            mlp_dim=48,
            num_classes=10,
        )
    )
    images = IMAGES[..., :32, :32].contiguous()
    nn.init.normal_(model.heads.head.weight)
    small = shrunk(model, images, {})
    same(small, model, images)
    same(small, model, torch.randn(3, 3, 32, 32, dtype=torch.float64))
