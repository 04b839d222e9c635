"""Hazard: attention within windows of a map. Every axis but the channels is cut and put back.

Coupled: heads and dims as in any attention; a head also with its column of the table of relative
positions, which is gathered by a buffer of indices. Rolls and masks of the shifted windows move
positions of the map and no channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models_zoo.blocks import PreNorm, classifier
from models_zoo.entry import ZooModel, inputs

_WINDOW = 4


class WindowAttention(nn.Module):
    """Attention in windows of 4x4 with relative position bias (Swin, Liu et al. 2021)."""

    index: Tensor
    mask: Tensor

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift, self.heads = shift, 4
        self.qkv = nn.Linear(20, 3 * 4 * 6)
        self.project = nn.Linear(4 * 6, 20)
        self.table = nn.Parameter(torch.zeros((2 * _WINDOW - 1) ** 2, 4))
        place = torch.cartesian_prod(torch.arange(_WINDOW), torch.arange(_WINDOW))
        distance = place[:, None] - place[None] + _WINDOW - 1
        self.register_buffer("index", (distance @ torch.tensor([2 * _WINDOW - 1, 1])).flatten())
        self.register_buffer("mask", _shift_mask(8, shift))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, 20) to the same shape, for H and W divisible by 4 (8 if shifted)."""
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), dims=(1, 2))
        batch, height, width, channels = x.shape
        rows, columns = height // _WINDOW, width // _WINDOW
        x = x.view(batch, rows, _WINDOW, columns, _WINDOW, channels).permute(0, 1, 3, 2, 4, 5)
        x = self.attend(x.reshape(-1, _WINDOW * _WINDOW, channels))
        x = x.view(batch, rows, columns, _WINDOW, _WINDOW, -1).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, height, width, -1)
        return torch.roll(x, (self.shift, self.shift), dims=(1, 2)) if self.shift else x

    def attend(self, x: Tensor) -> Tensor:
        """Map (windows, 16, 20) to the same shape."""
        count, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        bias = self.table[self.index].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
        scores = q * 6**-0.5 @ k.transpose(-2, -1) + bias.unsqueeze(0)
        if self.shift:
            kinds = self.mask.shape[0]
            scores = scores.view(count // kinds, kinds, self.heads, tokens, tokens)
            scores = (scores + self.mask[:, None]).view(-1, self.heads, tokens, tokens)
        mixed = scores.softmax(dim=-1) @ v
        return self.project(mixed.transpose(1, 2).reshape(count, tokens, -1))


def _shift_mask(size: int, shift: int) -> Tensor:
    """Minus 100 between tokens of a window that were no neighbours before the roll."""
    border = torch.tensor([0] * (size - _WINDOW) + [1] * (_WINDOW - shift) + [2] * shift)
    region = border[:, None] * 3 + border
    count = size // _WINDOW
    region = region.view(count, _WINDOW, count, _WINDOW).transpose(1, 2).reshape(count**2, -1)
    return (region[:, None] != region[:, :, None]) * -100.0


class ChannelsFirst(nn.Module):
    """Channels last to channels first."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, C, H, W)."""
        return x.permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """Channels first to channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, H, W, C)."""
        return x.permute(0, 2, 3, 1)


def windows(*shifts: int) -> nn.Module:
    """Return a patch embedding, attention in windows with the given shifts, and a classifier."""
    blocks = (PreNorm(20, WindowAttention(shift)) for shift in shifts)
    stem = nn.Conv2d(3, 20, 2, stride=2)
    return nn.Sequential(stem, ChannelsLast(), *blocks, ChannelsFirst(), classifier(20))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("attention_windows", lambda: windows(0), _IMAGES, "relative position table"),
    ZooModel("attention_windows_shifted", lambda: windows(0, 2), _IMAGES, "roll and mask"),
)
