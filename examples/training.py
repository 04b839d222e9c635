"""The training loop of the examples and benchmarks: SGD with one cycle of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from examples.data import Images

BATCH = 256
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes images, outputs and labels, and returns a scalar."""


def train(
    model: nn.Module,
    data: Images,
    epochs: int,
    *,
    learning_rate: float = 0.1,
    seed: int = 0,
    loss: Loss = lambda images, outputs, labels: F.cross_entropy(outputs, labels),
    optimizer: Optimizer | None = None,
    augmented: bool = True,
) -> None:
    """Train a model in place, and leave it in eval mode.

    Args:
        model: from images to logits.
        data: what to train on.
        epochs: how many times all of it is seen.
        learning_rate: the highest; it rises from a 25th of this and falls to nearly nothing.
        seed: of the order of the images and of the augmentation.
        loss: what is made small.
        optimizer: by default SGD with momentum 0.9 and weight decay 5e-4.
        augmented: whether images are shifted by up to two pixels and mirrored.
    """
    made = optimizer or sgd(model, learning_rate)
    random = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(data) // BATCH)
    schedule = OneCycleLR(made, learning_rate, total_steps=steps + 1, cycle_momentum=False)
    model.train()
    for _ in range(epochs):
        for part in batches(data, random):
            images = augment(part.images, random) if augmented else part.images
            value = loss(images, model(images), part.labels)
            made.zero_grad()
            value.backward()
            made.step()
            schedule.step()
    model.eval()


def sgd(model: nn.Module, learning_rate: float = 0.1) -> Optimizer:
    """Stochastic gradient descent with Nesterov's momentum of 0.9 and weight decay."""
    parameters = model.parameters()
    return torch.optim.SGD(parameters, learning_rate, 0.9, weight_decay=5e-4, nesterov=True)


def batches(data: Images, random: torch.Generator) -> Iterator[Images]:
    """All of the data once, in random order."""
    for index in torch.randperm(len(data), generator=random).split(BATCH):
        yield data[index]


def augment(images: Tensor, random: torch.Generator) -> Tensor:
    """Images shifted by up to two pixels, half of them mirrored."""
    down, right = torch.randint(0, 5, (2,), generator=random).tolist()
    height, width = images.shape[-2:]
    shifted = F.pad(images, (2, 2, 2, 2), value=float(images.min()))
    shifted = shifted[..., down : down + height, right : right + width]
    mirrored = torch.rand(len(images), generator=random) < 0.5
    return torch.where(mirrored[:, None, None, None], shifted.flip(-1), shifted)


@torch.no_grad()
def accuracy(model: nn.Module, data: Images) -> float:
    """The share of images whose largest logit is that of their class, from 0 to 1."""
    right = 0
    for start in range(0, len(data), 1000):
        part = data[slice(start, start + 1000)]
        right += int((model(part.images).argmax(1) == part.labels).sum())
    return right / len(data)
