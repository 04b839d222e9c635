"""Hazard: several outputs or inputs, in containers.

Coupled: a trunk's channels with the inputs of both heads, of which no output may go, wherever in
the returned dictionary it sits. Two inputs: each has a stem of its own, and the addition couples
them. A returned concatenation pins every channel in it, and leaves the layers before free. What a
dataclass or a list holds beside tensors comes back as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class TwoHeads(nn.Module):
    """A trunk with a class head and a map head, returned in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(conv_bn_relu(3, 10), conv_bn_relu(10, 16))
        self.classes = classifier(16)
        self.mask = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) to class scores (N, 10) and a mask (N, 1, H, W)."""
        x = self.trunk(x)
        return {"classes": self.classes(x), "mask": self.mask(x)}


class TwoInputs(nn.Module):
    """An image and a vector of conditions, which are added per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12)
        self.embed = nn.Linear(5, 12)
        self.conv = conv_bn_relu(12, 14)
        self.head = classifier(14)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """Map (N, 3, H, W) and (N, 5) to (N, 10)."""
        x = self.stem(image) + self.embed(condition)[:, :, None, None]
        return self.head(self.conv(x))


@dataclass
class Result:
    """What `Bundled` returns."""

    scores: Tensor
    levels: list[Tensor]
    stride: int
    note: str | None = None


class Bundled(nn.Module):
    """Scores, two feature maps and plain values, in a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = conv_bn_relu(3, 10), conv_bn_relu(10, 14, stride=2)
        self.fine, self.coarse = nn.Conv2d(10, 6, 1), nn.Conv2d(14, 6, 1)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Result:
        """Map (N, 3, H, W) to scores (N, 10), two maps of 6 channels, and the stride of one."""
        fine = self.stem(x)
        coarse = self.deep(fine)
        return Result(self.head(coarse), [self.fine(fine), self.coarse(coarse)], 2, "levels")


class PlainValues(nn.Module):
    """A list of scores, the number of channels that made them, a string and None."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(conv_bn_relu(3, 10), conv_bn_relu(10, 16))
        self.classes = classifier(16)

    def forward(self, x: Tensor) -> list[Tensor | int | str | None]:
        """Map (N, 3, H, W) to [scores (N, 10), 16, "scores", None]."""
        x = self.trunk(x)
        return [self.classes(x), x.shape[1], "scores", None]


class ReturnedConcat(nn.Module):
    """Two branches whose concatenation is the result, next to class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12)
        self.left = nn.Conv2d(12, 6, 1)
        self.right = nn.Conv2d(12, 9, 3, padding=1)
        self.head = classifier(15)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map (N, 3, H, W) to scores (N, 10) and a list with features (N, 15, H, W)."""
        x = self.stem(x)
        features = torch.cat([self.left(x), self.right(x)], dim=1)
        return self.head(F.relu(features)), [features]


_IMAGE = (2, 3, 16, 16)
MODELS = (
    ZooModel("multi_output", TwoHeads, inputs(_IMAGE), "two heads in a dictionary"),
    ZooModel("multi_output_two_inputs", TwoInputs, inputs(_IMAGE, (2, 5)), "two inputs, added"),
    ZooModel("multi_output_concat", ReturnedConcat, inputs(_IMAGE), "a returned concatenation"),
    ZooModel("multi_output_dataclass", Bundled, inputs(_IMAGE), "a dataclass with a list"),
    ZooModel("multi_output_values", PlainValues, inputs(_IMAGE), "plain values beside tensors"),
)
