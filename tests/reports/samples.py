"""Reports of a small model, and all that can stand beside them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

import fxprune
from fxprune import Plan, Sensitivity, ShrinkReport
from fxprune.measurements import Comparison, Measurement, Relation, Spread
from fxprune.reports import Tradeoff
from fxprune.tradeoffs import tradeoff

X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


class Small(nn.Module):
    """A residual block, a statistic over channels, and a product of inputs that pins."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 1), nn.GroupNorm(1, 8)
        self.block = nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, 1))
        self.pinned = nn.Conv2d(8, 3, 1)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.stem(x))
        y = self.pinned(y + self.block(y)) + x
        out: Tensor = self.head(y)
        return out


def model() -> Small:
    torch.manual_seed(0)
    return Small().double().eval()


def error(shrunk: nn.Module) -> float:
    with torch.no_grad():
        found = (shrunk(X.double()) - model()(X.double())).abs().mean().item()
    assert isinstance(found, float)
    return found


@cache
def plan(ratio: float = 0.5) -> Plan:
    return fxprune.plan(model(), X.double(), ratio=ratio)


@cache
def report() -> ShrinkReport:
    small = fxprune.shrink(model(), plan(), X.double())
    found = small.meta["fxprune"]
    assert isinstance(found, ShrinkReport)
    return found


@cache
def sensitivity() -> Sensitivity:
    return fxprune.sensitivity(
        model(), X.double(), error, ratios=(0.25, 0.5), mode="min", verify=False
    )


@cache
def candidates() -> Tradeoff:
    plans = {"light": plan(0.25), "half": plan(), "heavy": plan(0.75)}
    return tradeoff(model(), plans, X.double(), evaluate=error, metric="mean error", mode="min")


LATENCY = Comparison(
    measurements=(
        Measurement("dense", "eager", Spread(4.0, 3.5, 5.25), None, 300 << 20, 3 << 20),
        Measurement(
            *("half", "eager", Spread(2.0, 1.5, 2.5)),
            Relation("dense", Spread(0.5, 0.25, 0.75), "faster"),
            *(200 << 20, 1 << 20),
        ),
        Measurement("half", "compile", failure="it cannot be compiled"),
    ),
    threads=1,
    rounds=30,
    memory_limit=None,
)
