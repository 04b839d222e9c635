"""Models in which half of the channels repeat the others, so that a repair can restore all."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models_zoo import randomize


def repeat(*layers: nn.Module, groups: int = 1) -> None:
    """Let the second half of the channels that layers make repeat the first, in every group."""
    for layer in layers:
        for tensor in [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
            if tensor.dim() and len(tensor) > 1:
                parts = tensor.data.unflatten(0, (groups, -1))
                half = parts.shape[1] // 2
                parts[:, half:] = parts[:, :half]


class Repeated(NamedTuple):
    """A model whose module `name` makes `count` channels, of which `gone` can go for nothing.

    Attributes:
        readers: the weights that read them, in order.
        takes: where the constants of these go.
    """

    model: nn.Module
    inputs: Callable[[int], Tensor]
    name: str
    gone: list[int]
    readers: tuple[str, ...]
    takes: tuple[str, ...]


class Join(nn.Module):
    """Two convolutions, concatenated, in a third one and, flattened, in a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 8, 3)
        self.both = nn.Conv2d(12, 6, 3, padding=1)
        self.flat = nn.Linear(12 * 16, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both readers of the channels."""
        joined = torch.cat([self.left(x).relu(), self.right(x).relu()], 1)
        return self.both(joined), self.flat(joined.flatten(1))


class Block(nn.Module):
    """A residual stream of channels that two blocks add to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 1)
        self.head = nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """A block after the stem, and a head."""
        x = self.norm(self.stem(x)).relu()
        x = x + self.conv2(self.norm1(self.conv1(x)).relu())
        y: Tensor = self.head(x.mean((2, 3)))
        return y


class Attention(nn.Module):
    """Attention on a stream of features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Features, what attention adds to them, and outputs."""
        x = self.embed(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        y: Tensor = self.head(x)
        return y


def images(count: int) -> Tensor:
    """Small images."""
    return torch.randn(count, 3, 6, 6)


def _linear() -> Repeated:
    model = randomize(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4)))
    repeat(model[0])
    return Repeated(
        model, lambda n: torch.randn(n, 5), "0", [4, 5, 6, 7], ("2.weight",), ("2.bias",)
    )


def _convolution() -> Repeated:
    model = randomize(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)))
    repeat(model[0])
    return Repeated(model, images, "0", [4, 5, 6, 7], ("2.weight",), ("2.bias",))


def _grouped() -> Repeated:
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=2)
    model = randomize(nn.Sequential(*layers))
    repeat(layers[0], groups=2)
    return Repeated(model, images, "0", [2, 3, 6, 7], ("2.weight",), ("2.bias",))


def _joined() -> Repeated:
    model = randomize(Join())
    repeat(model.right)
    readers = ("both.weight", "flat.weight")
    return Repeated(model, images, "right", [4, 5, 6, 7], readers, ("both.bias", "flat.bias"))


def _residual() -> Repeated:
    model = randomize(Block())
    repeat(model.stem, model.norm, model.conv2)
    readers = ("conv1.weight", "head.weight")
    return Repeated(model, images, "stem", [4, 5, 6, 7], readers, ("norm1.running_mean", ""))


def _attention() -> Repeated:
    model = randomize(Attention())
    repeat(model.embed, model.attention.out_proj)
    readers = ("attention.in_proj_weight", "head.weight")
    takes = ("attention.in_proj_bias", "head.bias")
    return Repeated(model, lambda n: torch.randn(n, 6, 5), "embed", [4, 5, 6, 7], readers, takes)


REPEATED: dict[str, Callable[[], Repeated]] = {
    "linear": _linear,
    "convolution with zero padding": _convolution,
    "grouped convolution": _grouped,
    "concatenated and flattened": _joined,
    "residual stream, batch norm": _residual,
    "attention": _attention,
}
