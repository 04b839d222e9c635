"""Models with one norm of each kind, after layers of which channels can be removed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.reconstruction.models import images


class Scaled(nn.Module):
    """Channels times a vector, after another module: a layer scale."""

    def __init__(self, size: int, before: nn.Module) -> None:
        super().__init__()
        self.before, self.gamma = before, nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Scaled along the last dim."""
        y: Tensor = self.before(x) * self.gamma
        return y


class ByHand(nn.Module):
    """A root mean square norm as language models write it.

    Args:
        size: how many channels there are.
        plus: what is added to its weight.
    """

    def __init__(self, size: int, plus: float = 0.0) -> None:
        super().__init__()
        self.plus, self.weight = plus, nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normed along the last dim."""
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        y: Tensor = (self.plus + self.weight.float()) * x if self.plus else self.weight * x
        return y


class Net(nn.Module):
    """Two layers that mix, a norm, and what reads it if anything does."""

    def __init__(self, norm: nn.Module, *, of_images: bool, head: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 1) if of_images else nn.Linear(6, 12)
        self.second = nn.Conv2d(12, 8, 1) if of_images else nn.Linear(12, 8)
        self.norm, self.head = norm, nn.Identity()
        if head:
            self.head = nn.Conv2d(8, 4, 1) if of_images else nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """What the norm yields, or is made of it."""
        y: Tensor = self.head(self.norm(self.second(self.first(x).relu())))
        return y


def features(count: int, seed: int = 0) -> Tensor:
    """Correlated features of tokens."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(3, 6, generator=torch.Generator().manual_seed(7))
    return torch.randn(count, 5, 3, generator=generator) @ mixed


NORMS: dict[str, tuple[Callable[[], nn.Module], bool, str, str]] = {
    "batch norm": (lambda: nn.BatchNorm2d(8), True, "norm.weight", "norm.bias"),
    "layer norm": (lambda: nn.LayerNorm(8), False, "norm.weight", "norm.bias"),
    "layer norm, no bias": (lambda: nn.LayerNorm(8, bias=False), False, "norm.weight", ""),
    "layer norm of images": (lambda: nn.LayerNorm([8, 6, 6]), True, "norm.weight", "norm.bias"),
    "group norm": (lambda: nn.GroupNorm(2, 8), True, "norm.weight", "norm.bias"),
    "instance norm": (
        lambda: nn.InstanceNorm2d(8, affine=True),
        True,
        "norm.weight",
        "norm.bias",
    ),
    "RMS norm": (lambda: nn.RMSNorm(8), False, "norm.weight", ""),
    "RMS norm by hand": (lambda: ByHand(8), False, "norm.weight", ""),
    "RMS norm by hand, 1 + w": (lambda: ByHand(8, 1.0), False, "norm.weight", ""),
    "layer scale": (lambda: Scaled(8, nn.Tanh()), False, "norm.gamma", ""),
}
"""What makes a norm of 8 channels, whether it is of images, and its scale and shift."""


def inputs(name: str) -> Callable[[int], Tensor]:
    """What the net of a norm reads, for some count of samples."""
    return images if NORMS[name][1] else features
