"""One model of the sweep: how to build it and what to feed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Draw = Callable[[], Any]


def _as_it_is(model: nn.Module) -> None:
    """Leave the random parameters."""


@dataclass(frozen=True)
class SweepModel:
    """A model of the sweep. Building it needs its library, listing it does not.

    `settle` is run after the parameters were randomized.
    """

    library: str
    family: str
    name: str
    build: Callable[[], nn.Module]
    example_inputs: Draw
    settle: Callable[[nn.Module], None] = _as_it_is

    @property
    def key(self) -> str:
        """What `--only` patterns are matched with."""
        return f"{self.library}/{self.family}/{self.name}"


def normal(*shape: int) -> Tensor:
    """Standard normal values, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def tokens(*shape: int, below: int = 128) -> Tensor:
    """Token ids, the same each time; the first few ids mean padding, start and end."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(5, below, shape, generator=generator)
