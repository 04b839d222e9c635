"""Hazard: layers and calls that few networks have.

Coupled: `nn.Bilinear`, each operand with an axis of a parameter of rank three. `repeat_interleave`
of channels: channel c with columns 3c .. 3c+2 of its reader. A frozen or detached branch is no
exception: no gradient flows, but numbers do. A checkpointed block is the block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class BilinearLayer(nn.Module):
    """Two vectors make a third."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(8, 12), nn.Linear(6, 14)
        self.bilinear = nn.Bilinear(12, 14, 16)
        self.hidden, self.head = nn.Linear(16, 18), nn.Linear(18, 10)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map (N, 8) and (N, 6) to (N, 10)."""
        x, y = torch.tanh(self.left(x)), torch.tanh(self.right(y))
        return self.head(torch.relu(self.hidden(torch.relu(self.bilinear(x, y)))))


class Repeated(nn.Module):
    """Every channel three times, beside itself and, later, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 6)
        self.beside, self.after = conv_bn_relu(18, 8), conv_bn_relu(16, 12)
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.beside(self.stem(x).repeat_interleave(3, dim=1))
        return self.head(self.after(x.repeat(1, 2, 1, 1)))


class Frozen(nn.Module):
    """A frozen stem, and a branch through which no gradient flows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12).requires_grad_(requires_grad=False)
        self.teacher, self.student = conv_bn_relu(12, 16), conv_bn_relu(12, 16)
        self.head = classifier(16)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        return self.head(self.student(x) + self.teacher(x).detach())


class Checkpointed(nn.Module):
    """Two blocks whose activations are computed anew in the backward pass, in both manners."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 8)
        self.first, self.second = conv_bn_relu(8, 12), conv_bn_relu(12, 14)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = checkpoint(self.first, self.stem(x), use_reentrant=True)
        return self.head(checkpoint(self.second, x, use_reentrant=False))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("odd_layers_bilinear", BilinearLayer, inputs((4, 8), (4, 6)), "nn.Bilinear"),
    ZooModel("odd_layers_repeat", Repeated, _IMAGES, "channels are repeated, in both orders"),
    ZooModel("odd_layers_frozen", Frozen, _IMAGES, "frozen parameters and a detached branch"),
    ZooModel("odd_layers_checkpoint", Checkpointed, _IMAGES, "checkpoint, reentrant or not"),
)
