"""Hazard: grouped transposed convolution, whose weight is (in, out / groups, kh, kw).

Coupled: dim 0 of the weight with the producer, dim 1 with the reader. Dim 1 is shared by all
groups: removing output j of one group removes output j of each, so `out / groups` positions
serve `out` channels. The inputs of every group must shrink equally. A depthwise transposed
convolution has one group per channel and shrinks on dim 0 alone.
"""

from __future__ import annotations

from torch import nn

from models_zoo.blocks import conv_bn_relu
from models_zoo.entry import ZooModel, inputs


def transposed() -> nn.Module:
    """Return an upsampling net with a grouped and a depthwise transposed convolution."""
    return nn.Sequential(
        conv_bn_relu(3, 12),
        nn.ConvTranspose2d(12, 18, 3, stride=2, padding=1, output_padding=1, groups=3),
        nn.BatchNorm2d(18),
        nn.ReLU(),
        conv_bn_relu(18, 10),
        nn.ConvTranspose2d(10, 10, 2, stride=2, groups=10),
        nn.ReLU(),
        nn.Conv2d(10, 3, 1),
    )


MODELS = (
    ZooModel(
        "transposed",
        transposed,
        inputs((2, 3, 8, 8)),
        "grouped transposed convolution: one weight position is a channel of every group",
    ),
)
