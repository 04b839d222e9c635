"""Models by name, as processes find them."""

import os
import sys

import torch
from torch import Tensor, nn


def example_inputs() -> Tensor:
    return torch.zeros(1, 8)


def narrow() -> nn.Module:
    return nn.Linear(8, 4)


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 4))


class _Loud(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print("a model that prints")
        sys.stdout.flush()
        return x


def loud() -> nn.Module:
    return _Loud()


class _Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("cannot\nrun")


def failing() -> nn.Module:
    return _Failing()


class _Killed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        os._exit(7)


def killed() -> nn.Module:
    return _Killed()
