"""A lowered node is right at other sizes than the example's, or refuses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import fxprune
from models_zoo import randomize


def rolled_if(condition: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    return lambda x: x.roll(1, 1) if condition(x) else x


def first(count: Callable[[int], int]) -> Callable[[Tensor], Tensor]:
    return lambda x: x[:, : count(x.shape[1])]


CODE: dict[str, Callable[[Tensor], Tensor]] = {
    "more than a fraction": rolled_if(lambda x: x.shape[1] > 5.5),
    "half of it": rolled_if(lambda x: x.shape[1] / 2 > 3),
    "its square": rolled_if(lambda x: x.shape[1] ** 2 > 30),
    "its root": rolled_if(lambda x: math.sqrt(x.shape[1]) > 2),
    "its last bit": rolled_if(lambda x: x.shape[1] & 1),
    "its remainder": rolled_if(lambda x: x.shape[1] % 3 == 2),
    "a plain number of it": rolled_if(lambda x: int(x.shape[1]) > 5),
    "in a range": rolled_if(lambda x: x.shape[1] in range(6, 1000)),
    "a key": rolled_if(lambda x: {8: 1}.get(x.shape[1])),
    "the length of the batch": rolled_if(lambda x: len(x) > 3),
    "all elements": rolled_if(lambda x: x.numel() > 100),
    "the absolute value": rolled_if(lambda x: abs(x.shape[1]) > 5),
    "the larger": rolled_if(lambda x: max(x.shape[1], 6) == 8),
    "of a piece": rolled_if(lambda x: x.chunk(3, 1)[0].shape[1] > 2),
    "of something new": rolled_if(lambda x: torch.arange(x.shape[1]).shape[0] > 5),
    "half rounded up": first(lambda n: math.ceil(n / 2)),
    "half rounded": first(lambda n: round(n * 0.5)),
    "half by a shift": first(lambda n: (n + 1) >> 1),
    "minus the floor of minus half": first(lambda n: -(-n // 2)),
    "twice the half": first(lambda n: n // 2 * 2),
    "half": first(lambda n: n // 2),
    "all but two": first(lambda n: max(n - 2, 1)),
    "a hundredth more": first(lambda n: 4 + n // 100),
    "steps of a loop": first(lambda n: sum(1 for _ in range(0, n, 3))),
    "padded": lambda x: F.pad(x, (0, 0, 0, (4 - x.shape[1] % 4) % 4)),
}
SIZES = ((4, 8), (2, 8), (7, 16), (4, 4), (4, 6), (3, 7), (4, 9), (2, 24), (5, 100))


@fx.wrap
def changed(x: Tensor, weight: Tensor, name: str) -> Tensor:
    """One piece of code, and a product that has to be lowered."""
    x = CODE[name](x) @ weight
    return x.view(x.shape[0], x.shape[1], 2, -1).flatten(2)


class Changed(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.embed, self.head = nn.Linear(8, 6), nn.Linear(10, 3)
        self.mix = nn.Parameter(torch.randn(6, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(changed(self.embed(x), self.mix, self.name))


@pytest.mark.parametrize("name", CODE)
def test_other_sizes_give_the_originals_numbers_or_are_refused(name: str) -> None:
    model = randomize(Changed(name)).eval()
    plan = fxprune.plan(model, torch.randn(4, 8, 8), 0.5)
    small = fxprune.shrink(model, plan)
    assert small.get_parameter("embed.weight").shape == (3, 8)
    for batch, tokens in SIZES:
        x = torch.randn(batch, tokens, 8)
        try:
            small(x)
        except AssertionError as error:
            assert (batch, tokens) != (4, 8)
            assert "changed was recorded for inputs with" in str(error)  # noqa: PT017
        else:
            assert fxprune.verify(model, small, plan, x).relative < 1e-9


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("half", SIZES),
        ("more than a fraction", [s for s in SIZES if s[1] > 5]),
        ("padded", [s for s in SIZES if s[1] % 4 == 0]),
        ("twice the half", [s for s in SIZES if s[1] % 2 == 0]),
        ("all elements", [(4, 8), (7, 16), (5, 100), (3, 7)]),
    ],
)
def test_sizes_at_which_the_same_code_runs_are_taken(
    name: str, sizes: list[tuple[int, int]]
) -> None:
    model = randomize(Changed(name)).eval()
    small = fxprune.shrink(model, fxprune.plan(model, torch.randn(4, 8, 8), 0.5))
    for batch, tokens in sizes:
        small(torch.randn(batch, tokens, 8))


@fx.wrap
def with_its_size(x: Tensor, weight: Tensor) -> tuple[Tensor, int]:
    """Returns a number beside a tensor."""
    x = (x @ weight).view(x.shape[0], x.shape[1], 2, -1).flatten(2)
    return x, x.shape[1]


class ReturnsSize(Changed):
    def forward(self, x: Tensor) -> Tensor:
        x, tokens = with_its_size(self.embed(x), self.mix)
        return self.head(x) / tokens


def test_a_size_that_is_returned_follows() -> None:
    model = randomize(ReturnsSize("")).eval()
    plan = fxprune.plan(model, torch.randn(4, 8, 8), 0.5)
    small = fxprune.shrink(model, plan)
    for batch, tokens in SIZES:
        x = torch.randn(batch, tokens, 8)
        assert fxprune.verify(model, small, plan, x).relative < 1e-9


class Limited(Changed):
    """Takes eight tokens at most, so that larger samples say nothing."""

    def __init__(self) -> None:
        super().__init__("more than a fraction")
        self.positions = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.positions[: x.shape[1]])


def test_decisions_about_sizes_that_no_sample_varies_are_asserted() -> None:
    model = randomize(Limited()).eval()
    plan = fxprune.plan(model, torch.randn(2, 6, 8), 0.5)
    small = fxprune.shrink(model, plan)
    with pytest.raises(AssertionError, match=r"shape\[1\] > 5\.5"):
        small(torch.randn(2, 4, 8))


@dataclass
class Batch:
    tokens: Tensor


class TakesBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 16), nn.Linear(16, 3)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, batch: Batch) -> Tensor:
        x = self.embed(batch.tokens)
        return self.head(self.attention(x, x, x, need_weights=False)[0])


def test_sizes_in_dataclasses_are_dynamic() -> None:
    model = randomize(TakesBatch()).eval()
    plan = fxprune.plan(model, (Batch(torch.randn(4, 6, 8)),), 0.5)
    small = fxprune.shrink(model, plan)
    other = (Batch(torch.randn(2, 9, 8)),)
    assert fxprune.verify(model, small, plan, other).relative < 1e-9
