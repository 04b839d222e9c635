"""Hazard: attention on feature maps: selective kernels, CBAM, non-local blocks, gates of all kinds.

Coupled, selective kernel: the branches, the gate's outputs for every branch, and the readers: the
softmax runs over branches. CBAM: one small network serves the mean and the maximum of each channel;
the gate over positions looks across all channels, so it changes with them. Non-local: queries with
keys; values with the way back, whose output joins the residual.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class SelectiveKernel(nn.Module):
    """Two kernels, weighted per channel by a softmax over the two (Li et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 8)
        self.small, self.large = conv_bn_relu(8, 12), conv_bn_relu(8, 12, kernel=5)
        self.squeeze = nn.Linear(12, 7)
        self.select = nn.Linear(7, 2 * 12)
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        branches = torch.stack([self.small(x), self.large(x)], dim=1)
        pooled = branches.sum(dim=1).mean(dim=(2, 3))
        gate = self.select(F.relu(self.squeeze(pooled))).view(x.shape[0], 2, -1, 1, 1)
        return self.head((branches * gate.softmax(dim=1)).sum(dim=1))


class Cbam(nn.Module):
    """A gate over channels, then one over positions (Woo et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 14)
        self.mlp = nn.Sequential(nn.Conv2d(14, 6, 1), nn.ReLU(), nn.Conv2d(6, 14, 1))
        self.gate = nn.Conv2d(2, 1, 7, padding=3)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        pooled = self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))
        x = x * torch.sigmoid(pooled)
        across = torch.cat([torch.mean(x, 1, keepdim=True), torch.amax(x, 1, keepdim=True)], dim=1)
        return self.head(x * torch.sigmoid(self.gate(across)))


class NonLocal(nn.Module):
    """Every position looks at every other, in a residual branch (Wang et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 16)
        self.theta, self.phi = nn.Conv2d(16, 10, 1), nn.Conv2d(16, 10, 1)
        self.g, self.back = nn.Conv2d(16, 12, 1), nn.Conv2d(12, 16, 1)
        self.head = classifier(16)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        batch, _, height, width = x.size()
        theta = self.theta(x).view(batch, 10, -1).permute(0, 2, 1)
        weights = torch.matmul(theta, self.phi(x).view(batch, 10, -1)).softmax(dim=-1)
        mixed = torch.matmul(weights, self.g(x).view(batch, 12, -1).permute(0, 2, 1))
        mixed = mixed.permute(0, 2, 1).contiguous().view(batch, 12, height, width)
        return self.head(x + self.back(mixed))


class EfficientChannel(nn.Module):
    """A gate by a 1-d convolution over neighbouring channels (ECA, Wang et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 14)
        self.gate = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.body = conv_bn_relu(14, 12)
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        pooled = x.mean(dim=(2, 3)).unsqueeze(1)
        gate = torch.sigmoid(self.gate(pooled)).squeeze(1)
        return self.head(self.body(x * gate[:, :, None, None]))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("map_attention_selective", SelectiveKernel, _IMAGES, "a softmax over branches"),
    ZooModel("map_attention_cbam", Cbam, _IMAGES, "a shared gate, and one across channels"),
    ZooModel("map_attention_non_local", NonLocal, _IMAGES, "all positions look at all"),
    ZooModel("map_attention_eca", EfficientChannel, _IMAGES, "a convolution over channels"),
)
