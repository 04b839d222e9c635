"""Small models around one operator, and the reference that shrunk ones are compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx, nn

import fxprune
from fxprune import DependencyGraph
from fxprune.module_trees import attribute_at
from fxprune.planning import Layout, Plan
from models_zoo import ZOO, randomize

Operator = Callable[["Between", Tensor], Tensor]


class Between(nn.Module):
    """A convolution that makes `width` channels, an operator on them, and a head.

    The operator gets this module too, for its parameters and buffers.
    """

    permutation: Tensor

    def __init__(self, operator: Operator, head: nn.Module, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.operator = operator
        self.head = head
        self.relu, self.overwrite = nn.ReLU(), nn.ReLU(inplace=True)
        self.sigmoid = nn.Sigmoid()
        order = [7, 2, 11, 0, 5, 9, 1, 10, 4, 8, 3, 6]
        self.register_buffer("permutation", torch.tensor(order))
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.depthwise = nn.Parameter(torch.zeros(12, 1, 3, 3))
        self.full = nn.Parameter(torch.zeros(4, 12, 3, 3))
        self.grouped = nn.Parameter(torch.zeros(12, 6, 3, 3))
        self.transposed = nn.Parameter(torch.zeros(12, 2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.operator(self, self.stem(x)))


def between(operator: Operator, head: nn.Module, width: int = 12) -> nn.Module:
    """A `Between` in float64 with random weights."""
    return randomize(Between(operator, head, width)).double().eval()


def conv(channels: int) -> nn.Module:
    """A head that reads (N, channels, H, W)."""
    return nn.Conv2d(channels, 5, 1)


def conv1d(channels: int) -> nn.Module:
    """A head that reads (N, channels, positions)."""
    return nn.Conv1d(channels, 5, 1)


def linear(channels: int) -> nn.Module:
    """A head that reads (N, ..., channels)."""
    return nn.Linear(channels, 5)


def images(batch: int = 2, height: int = 6, width: int = 6) -> Tensor:
    """Random images in float64, the same for the same shape."""
    generator = torch.Generator().manual_seed(batch + 10 * height + 100 * width)
    return torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64)


EXAMPLE = images()
OTHER_SHAPES = (images(batch=3), images(batch=1), images(height=8, width=10))


def zeroed(model: nn.Module, plan: Plan) -> nn.Module:
    """The original with zeros for all that the plan removes.

    It computes what the shrunk model computes, unless an operator looks across channels in another
    way than summing over them.
    """
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, dims in plan.slices.items():
            for dim, positions in dims.items():
                attribute_at(copied, name).index_fill_(dim, torch.tensor(positions), 0)
    return copied


def assert_computes_the_original(
    model: nn.Module, plan: Plan, small: nn.Module, inputs: Sequence[Tensor]
) -> None:
    """Compare a shrunk model with the zeroed original."""
    reference = zeroed(model, plan)
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(small(x), reference(x), rtol=1e-9, atol=1e-9)


def call(graph_module: fx.GraphModule, name: str) -> fx.Node:
    """The node of a name."""
    return next(node for node in graph_module.graph.nodes if node.name == name)


def zoo(name: str, ratio: float = 0.5) -> tuple[DependencyGraph, Layout]:
    """The analysis of a zoo model with random weights, and the layout for a ratio."""
    entry = ZOO[name]
    deps = fxprune.analyze(randomize(entry.build()).eval(), entry.example_inputs())
    return deps, fxprune.plan(deps, ratio=ratio).layout(deps)


def laid_out(model: nn.Module, x: Tensor, ratio: float = 0.5) -> tuple[DependencyGraph, Layout]:
    """The analysis of a model, and the layout for a ratio."""
    deps = fxprune.analyze(model, x)
    return deps, fxprune.plan(deps, ratio=ratio).layout(deps)
