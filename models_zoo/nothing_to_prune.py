"""Hazard: there is nothing to remove, and that is an answer, not an error.

Coupled: everything with the network's inputs or outputs, which stay. In the second model each
layer's channels are returned, so every one of them is seen from outside.
"""

from __future__ import annotations

from torch import Tensor, nn

from models_zoo.blocks import conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class FeaturePyramid(nn.Module):
    """A backbone that returns the result of each of its stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = conv_bn_relu(3, 8, stride=2)
        self.stage2 = conv_bn_relu(8, 12, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, H, W) to (N, 8, H / 2, W / 2) and (N, 12, H / 4, W / 4)."""
        fine = self.stage1(x)
        coarse = self.stage2(fine)
        return fine, coarse


def linear() -> nn.Module:
    """Return a single linear layer."""
    return nn.Linear(16, 10)


MODELS = (
    ZooModel("nothing_to_prune", linear, inputs((2, 16)), "a single linear layer"),
    ZooModel(
        "nothing_to_prune_pyramid",
        FeaturePyramid,
        inputs((2, 3, 16, 16)),
        "every channel is returned",
    ),
)
