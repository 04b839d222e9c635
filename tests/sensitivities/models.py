"""Models of which it is known what each group is worth, and functions that evaluate them."""

from pathlib import Path

import torch
from torch import Tensor, nn

X = torch.linspace(-1, 1, 64).reshape(16, 4)


class Two(nn.Module):
    """Two hidden layers side by side; what `small` computes hardly counts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.large, self.small = nn.Linear(4, 16), nn.Linear(4, 16)
        self.from_large, self.from_small = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        large = self.from_large(self.large(x).relu())
        return large + 0.01 * self.from_small(self.small(x).relu())


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first = nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.last(self.attention(x, x, x)[0])


def two() -> Two:
    return Two().eval()


WHOLE = two()(X).detach()  # made once: random numbers are those of the whole process


@torch.no_grad()
def error(model: nn.Module) -> float:
    """The mean absolute difference from what the whole model computes."""
    return (model(X) - WHOLE).abs().mean().item()


def size(model: nn.Module) -> int:
    """How many parameters a model has."""
    return sum(parameter.numel() for parameter in model.parameters())


class Counting:
    """Writes a line to a file whenever it evaluates."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, model: nn.Module) -> float:
        with self.path.open("a") as stream:
            stream.write("x")
        return error(model)

    @property
    def count(self) -> int:
        return len(self.path.read_text()) if self.path.exists() else 0
