"""Hazard: grouped convolutions, whose groups must stay equally large.

Coupled: a channel leaves together with one channel of every other group, else the groups become
unequal. Two groups and then four over the same 16 channels: each quarter loses equally many, and
so do the halves. Four groups and then six over 24 channels: group borders cross, and only what is
equal on both sides can go. With a depth multiplier of three, input channel c owns outputs
3c .. 3c+2, and c is a group: they go together, and `groups` shrinks.
"""

from __future__ import annotations

from torch import nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


def nested() -> nn.Module:
    """Return convolutions with two and four groups over one axis of 16 channels."""
    return nn.Sequential(
        conv_bn_relu(3, 12),
        conv_bn_relu(12, 16, groups=2),
        conv_bn_relu(16, 16, groups=4),
        conv_bn_relu(16, 20),
        classifier(20),
    )


def crossing() -> nn.Module:
    """Return convolutions with four and six groups over one axis of 24 channels."""
    return nn.Sequential(
        conv_bn_relu(3, 8),
        conv_bn_relu(8, 24, groups=4),
        conv_bn_relu(24, 18, groups=6),
        classifier(18),
    )


def depth_multiplier() -> nn.Module:
    """Return a depthwise convolution that makes three outputs of each of eight channels."""
    return nn.Sequential(
        conv_bn_relu(3, 8),
        nn.Conv2d(8, 24, 3, padding=1, groups=8),
        nn.ReLU(),
        conv_bn_relu(24, 12, kernel=1),
        classifier(12),
    )


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("grouped_conv", nested, _IMAGES, "two and then four groups over one axis"),
    ZooModel("grouped_conv_crossing", crossing, _IMAGES, "four and then six groups over one axis"),
    ZooModel(
        "grouped_conv_multiplier",
        depth_multiplier,
        _IMAGES,
        "a depthwise convolution with three outputs per input channel",
    ),
)
