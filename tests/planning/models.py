"""Analyses that the tests of planning share, and the shortest way to a model of given widths."""

from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from fxprune import DependencyGraph, analyze
from models_zoo import ZOO, randomize


@cache
def zoo(name: str) -> DependencyGraph:
    """The analysis of a zoo model with random weights."""
    entry = ZOO[name]
    return analyze(randomize(entry.build()).eval(), entry.example_inputs())


def chain(*widths: int) -> nn.Sequential:
    """Linear layers "0", "1" ... that lead through the widths."""
    return randomize(nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))).eval()


def analyzed_chain(*widths: int) -> DependencyGraph:
    """The analysis of `chain`; its groups are named after the layers, the last one is pinned."""
    return analyze(chain(*widths), torch.zeros(1, widths[0]))


class Deciding(nn.Module):
    """Goes on by a value, so that it is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(x).relu()
        return self.second(inner) if float(inner.sum()) > -1 else inner
