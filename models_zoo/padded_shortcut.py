"""Hazard: a shortcut without parameters. Channels are added where there were none.

Coupled: after the padded addition, the middle channels with the narrow stage's channels, one to
one at an offset; the outer channels belong to the wide stage alone, for zeros are added to them.
The amounts of padding are literals that must follow what is removed on either side.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class PaddedBlock(nn.Module):
    """A strided basic block with ResNet's option A shortcut (He et al. 2015, section 4.2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn_relu(in_channels, out_channels, stride=2),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.pad = (out_channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H / 2, W / 2)."""
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(self.body(x) + shortcut)


def padded_shortcut() -> nn.Module:
    """Return two padded blocks: 8 to 12 to 20 channels."""
    blocks = PaddedBlock(8, 12), PaddedBlock(12, 20)
    return nn.Sequential(conv_bn_relu(3, 8), *blocks, classifier(20))


MODELS = (
    ZooModel(
        "padded_shortcut",
        padded_shortcut,
        inputs((2, 3, 16, 16)),
        "zero channels are padded on both sides of a strided shortcut",
    ),
)
