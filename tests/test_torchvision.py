"""Real networks, at half of all channels, on random parameters and norm statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from models_zoo import randomize

models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")

IMAGE, OTHER = (2, 3, 64, 64), (3, 3, 80, 96)
CLIP, OTHER_CLIP = (1, 3, 4, 24, 24), (2, 3, 6, 20, 32)
# Of each kind one that fits beside other work: `make sweep` runs them all.
NETWORKS: dict[str, dict[str, Any]] = {
    "alexnet": {},
    "resnet18": {},
    "resnet50": {},
    "resnext50_32x4d": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "mnasnet0_5": {},
    "efficientnet_b0": {},
    "regnet_y_400mf": {},
    "squeezenet1_1": {},
    "densenet121": {},
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
    "shufflenet_v2_x0_5": {},
    "convnext_tiny": {},
    "lraspp_mobilenet_v3_large": {"weights_backbone": None},
    "r3d_18": {},
}


def built(name: str) -> nn.Module:
    model = models.get_model(name, weights=None, **NETWORKS[name])
    return randomize(model).eval()


def shapes(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if name == "r3d_18":
        return CLIP, OTHER_CLIP
    if name == "inception_v3":  # takes at least 75 pixels
        return (2, 3, 96, 96), (3, 3, 112, 96)
    return IMAGE, OTHER


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_a_network_equals_its_masked_original_at_any_size(name: str) -> None:
    model = built(name)
    example, other = (torch.randn(shape) for shape in shapes(name))
    plan = fxprune.plan(model, example, 0.5)
    small = fxprune.shrink(model, plan, example)
    report = small.meta["fxprune"]
    assert report.verification.every_node
    assert report.verification.dtype == "float64"
    assert report.verification.relative < 1e-9
    assert report.after.parameters < 0.5 * report.before.parameters
    assert report.after.macs < 0.5 * report.before.macs
    for group in plan.groups.values():
        if group.kind == "channels" and group.size > 1:
            assert group.width == group.size - group.size // 2
    assert fxprune.verify(model, small, plan, other).relative < 1e-9
    with torch.no_grad():
        dense, pruned = model(other), small(other)
    if isinstance(dense, dict):
        dense, pruned = dense["out"], pruned["out"]
    assert pruned.shape == dense.shape
    assert not torch.allclose(pruned, dense)  # or nothing that matters was removed


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet50", "resnext50_32x4d"),
        *("densenet121", "shufflenet_v2_x0_5", "googlenet"),
    ],
)
def test_nothing_is_pinned_but_image_channels_and_class_logits(name: str) -> None:
    deps = fxprune.analyze(built(name), torch.empty(1, 3, 64, 64, device="meta"))
    pinned = [group for group in deps.groups if group.pinned is not None]
    assert [group.size for group in pinned] == [1000, 3]
    assert pinned[0].pinned is not None
    assert pinned[0].pinned.what == "output of the model"
    assert pinned[1].pinned is not None
    assert pinned[1].pinned.what == "input x of the model"
    told = [d.what for d in deps.diagnostics]
    assert [what for what in told if "is not used" not in what and "eval flag" not in what] == []


def test_the_reason_for_renormalization_is_reported() -> None:
    model = built("convnext_tiny")
    x = torch.randn(1, 3, 32, 32)
    report = fxprune.shrink(model, {"*": 0.5}, x).meta["fxprune"]
    assert report.renormalized
    assert all("layer_norm" in place.where.op for place in report.renormalized)
