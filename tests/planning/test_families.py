"""Groups in the same place of repeated blocks are told by the classes of these blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxprune
from fxprune.planning.families import alike


class Layer(nn.Module):
    """A layer of a class of its own, of which every block has two."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).relu()


class Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = Layer(width, inner)
        self.middle = Layer(inner, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.middle(self.up(x)))


class Other(Block):
    """The same in another class."""


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Block(8, 12), Block(8, 12))
        self.decoder = nn.ModuleList([Block(8, 12)])
        self.rest = nn.Sequential(Other(8, 12), Block(8, 16))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        for block in self.decoder:
            x = block(x)
        return self.head(self.rest(x))


def families(model: nn.Module, x: Tensor) -> set[frozenset[str]]:
    deps = fxprune.analyze(model, x)
    found = alike([group for group in deps.groups if group.prunable], model)
    return {frozenset(group.name for group in family) for family in found}


def test_blocks_of_one_class_and_size_are_alike_wherever_they_stand() -> None:
    found = families(Two(), torch.zeros(1, 8))
    blocks = ("encoder.0", "encoder.1", "decoder.0")
    assert frozenset(f"{name}.up.inner" for name in blocks) in found
    assert frozenset(f"{name}.middle.inner" for name in blocks) in found


def test_blocks_of_other_classes_and_sizes_stand_apart() -> None:
    found = families(Two(), torch.zeros(1, 8))
    assert frozenset({"rest.0.up.inner"}) in found
    assert frozenset({"rest.1.up.inner"}) in found


def test_the_channels_on_which_blocks_meet_are_in_no_block_alone() -> None:
    blocks = [Block(8, 12) for _ in range(2)]
    model = nn.Sequential(nn.Linear(4, 8), *blocks, nn.Linear(8, 2))
    assert frozenset({"0"}) in families(model, torch.zeros(1, 4))


def test_layers_of_torch_are_alike_if_their_names_are_but_for_numbers() -> None:
    layers = [part for _ in range(3) for part in (nn.Linear(8, 8), nn.ReLU())]
    assert families(nn.Sequential(*layers, nn.Linear(8, 2)), torch.zeros(1, 8)) == {
        frozenset({"0", "2", "4"})
    }


def test_heads_that_a_bias_ties_together_are_alike_those_that_are_not() -> None:
    class Attention(nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
            self.o = nn.Linear(8, 8)
            self.bias = nn.Parameter(torch.zeros(4)) if tied else None

        def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
            n, t, _ = x.shape
            q, k, v = (f(x).view(n, t, 4, 2).transpose(1, 2) for f in (self.q, self.k, self.v))
            scores = q @ k.transpose(2, 3)
            if bias is not None:
                scores = scores + bias[:, None, None]
            mixed = (scores.softmax(3) @ v).transpose(1, 2).reshape(n, t, 8)
            return x + self.o(mixed)

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tied = nn.ModuleList([Attention(tied=k == 0) for k in range(2)])
            self.free = nn.ModuleList([Attention(tied=False) for _ in range(2)])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.tied:
                x = layer(x, self.tied[0].bias)
            for layer in self.free:
                x = layer(x, None)
            return x

    found = families(Stack(), torch.zeros(1, 3, 8))
    assert frozenset({"tied.0.q[heads]", "free.0.q[heads]", "free.1.q[heads]"}) in found
