"""Networks and functions that take their time, so that tests can stop them in the middle."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from tests.sensitivities.models import error

LONG = 300.0
"""Seconds: a command that is not stopped fails by the test's limit."""


class SlowToTrace(nn.Module):
    """Its forward takes long, whoever calls it."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(LONG)
        return x


def slowly(x: Tensor) -> Tensor:
    """The same, long if there is data."""
    if type(x) is Tensor and x.device.type != "meta":
        time.sleep(LONG)
    return x.relu()


fx.wrap("slowly")


class SlowToCall(nn.Module):
    """Analysis is fast, and a call takes long."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(slowly(self.first(x)))
        return out


class Fast(nn.Sequential):
    """A small network."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def value(model: Any) -> float:
    """Worth; after FAST calls, each notes that it began and takes long if SLOW says so."""
    with Path("calls").open("a", encoding="utf-8") as stream:
        stream.write("x")
    if len(Path("calls").read_text(encoding="utf-8")) > int(os.environ["FAST"]):
        time.sleep(LONG)
    with torch.no_grad():
        return error(model)
