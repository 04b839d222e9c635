"""Hazard: a temporal shift module. Some channels of a frame come from the frames beside it.

Coupled: producers with readers, and where both shifts are filled up with the same zeros, channels
0 and 2, 1 and 3. The borders between the parts move when channels before them leave. Frames are a
factor of the batch, and stay.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class ShiftBySlices(nn.Module):
    """Shift an eighth of the channels back, an eighth on (Lin et al. 2019).

    The eighth is computed from the number of channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N * 4, C, H, W) to the same shape."""
        rows, channels, height, width = x.size()
        x = x.view(rows // 4, 4, channels, height, width)
        fold = channels // 8
        zeros = x.new_zeros(rows // 4, 1, fold, height, width)
        later = torch.cat([x[:, 1:, :fold], zeros], dim=1)
        earlier = torch.cat([zeros, x[:, :-1, fold : 2 * fold]], dim=1)
        out = torch.cat([later, earlier, x[:, :, 2 * fold :]], dim=2)
        return out.view(rows, channels, height, width)


class ShiftBySplit(nn.Module):
    """The same by a split at literal borders."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N * 4, 16, H, W) to the same shape."""
        frames = x.unflatten(0, (-1, 4))
        later, earlier, still = frames.split([2, 2, 12], dim=2)
        later = torch.cat([later[:, 1:], torch.zeros_like(later[:, :1])], dim=1)
        earlier = torch.cat([torch.zeros_like(earlier[:, :1]), earlier[:, :-1]], dim=1)
        return torch.cat([later, earlier, still], dim=2).flatten(0, 1)


def shifted(shift: type[nn.Module]) -> nn.Module:
    """Return a shift between two convolutions, and a classifier of frames."""
    return nn.Sequential(conv_bn_relu(3, 16), shift(), conv_bn_relu(16, 12), classifier(12))


_FRAMES = inputs((8, 3, 16, 16))
MODELS = (
    ZooModel("temporal_shift", lambda: shifted(ShiftBySlices), _FRAMES, "computed borders"),
    ZooModel("temporal_shift_split", lambda: shifted(ShiftBySplit), _FRAMES, "a split"),
)
