"""What one line of the zoo's table holds, and how its example inputs are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ZooModel:
    """A model of the zoo: how to build it, what to feed it, why it is here."""

    name: str
    build: Callable[[], nn.Module]
    example_inputs: Callable[[], tuple[Tensor, ...]]
    hazard: str


def inputs(*shapes: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    """Return a function that draws one standard normal tensor per shape, the same each time."""

    def draw() -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.randn(shape, generator=generator) for shape in shapes)

    return draw


def words(vocabulary: int, *shapes: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    """Return a function that draws one tensor of word numbers per shape, the same each time.

    The last word is left out, so that every number plus one is a word too.
    """

    def draw() -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.randint(vocabulary - 1, shape, generator=generator) for shape in shapes)

    return draw
