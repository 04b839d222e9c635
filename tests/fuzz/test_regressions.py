"""What random programs found, as small models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxprune
from fuzz.oracle import Oracle, difference
from fxprune import stepping
from models_zoo import randomize


def assert_right(model: nn.Module, x: Tensor, ratio: float = 0.5) -> None:
    """Verified, and what the oracle says."""
    model, x = randomize(model).double().eval(), x.double()
    plan = fxprune.plan(model, x, ratio)
    small = fxprune.shrink(model, plan, x)
    assert difference(small, [x], Oracle(model, plan.slices).outputs([x])) is None


class SumOfCentred(nn.Module):
    """The sum of what is left without the mean: zero, but for rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x - x.mean(-1, keepdim=True)
        return self.last(x + x.sum(-1, keepdim=True))


def test_a_value_that_is_zero_but_for_rounding_is_no_difference() -> None:
    assert_right(SumOfCentred(), torch.randn(2, 4, 5))


class PooledPlaces(nn.Module):
    """Features as images, whose places are channels, averaged over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 4)
        self.second = nn.Linear(4, 12)
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x)).view(-1, 3, 2, 2)
        return self.last(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def test_a_pool_of_all_places_is_a_mean_over_those_that_stay() -> None:
    assert_right(PooledPlaces(), torch.randn(2, 6))


def test_verifying_leaves_no_seeds_for_devices_that_are_not_there() -> None:
    queued = len(torch.cuda._queued_calls)
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    stepper = stepping.Stepper("the original", graph, [torch.ones(1, 2)], torch.no_grad())
    assert isinstance(stepper.run(), Tensor)
    assert torch.accelerator.is_available() or len(torch.cuda._queued_calls) == queued
