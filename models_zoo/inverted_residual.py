"""Hazard: depthwise convolution, whose channels are inputs, outputs and groups at once.

Coupled: per block, the expansion's outputs, the depthwise convolution (its groups shrink with
it) and the projection's inputs; the narrow stream between blocks, as in `residual`. Hardswish
and ReLU6 map zero to zero; the group is the same for both.
"""

from __future__ import annotations

from torch import Tensor, nn

from models_zoo.blocks import classifier
from models_zoo.entry import ZooModel, inputs


class InvertedResidual(nn.Module):
    """Expand, filter each channel alone, project (MobileNetV2, Sandler et al. 2018)."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, act: nn.Module) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), act
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            act,
        )
        self.project = nn.Sequential(
            nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.residual = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


def network(act: type[nn.Module]) -> nn.Module:
    """Return three inverted residual blocks with activation `act`, the second one widening."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        InvertedResidual(8, 24, 8, act()),
        InvertedResidual(8, 20, 12, act()),
        InvertedResidual(12, 32, 12, act()),
        classifier(12),
    )


def relu6() -> nn.Module:
    """Return the MobileNetV2 flavour."""
    return network(nn.ReLU6)


def hardswish() -> nn.Module:
    """Return the MobileNetV3 flavour."""
    return network(nn.Hardswish)


_IMAGES = inputs((2, 3, 32, 32))
MODELS = (
    ZooModel("inverted_residual", relu6, _IMAGES, "depthwise channels are groups too"),
    ZooModel(
        "inverted_residual_hardswish",
        hardswish,
        _IMAGES,
        "depthwise channels are groups too, under a non-monotonic activation",
    ),
)
