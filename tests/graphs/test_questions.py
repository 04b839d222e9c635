"""Questions about a dependency graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.graphs import Blocked, blocked_by, critical_path, touched_by
from models_zoo import ZOO
from tests.drawing.models import analyzed, residual


def test_what_a_group_touches() -> None:
    graph = residual(6).to_networkx()
    found = touched_by(graph, "blocks.0.conv1")
    assert found.parameters == {
        "blocks.0.conv1.weight": 432,
        "blocks.0.conv1.bias": 6,
        "blocks.0.bn1.weight": 6,
        "blocks.0.bn1.bias": 6,
        "blocks.0.conv2.weight": 432,
        "blocks.0.bn1.running_mean": 6,
        "blocks.0.bn1.running_var": 6,
    }
    assert found.ops == ("blocks_0_conv1", "blocks_0_bn1", "relu")
    assert found.modules == ("blocks.0.conv1", "blocks.0.bn1", "blocks.0")


def test_nothing_blocks_a_group_that_can_be_pruned() -> None:
    assert blocked_by(residual(6).to_networkx(), "stem") == Blocked("")


class Added(nn.Module):
    """What a convolution makes is added to the image, and so is what another one makes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.second(x) + self.first(x).relu()).mean((2, 3)))


def test_what_blocks_a_group_is_told_with_the_way_there() -> None:
    graph = analyzed(Added(), torch.zeros(1, 3, 4, 4)).to_networkx()
    found = blocked_by(graph, "first")
    assert (found.reason, found.by, found.at) == ("input x of the model", "x", "add_1")
    assert found.way == ("first", "relu", "add_1")
    assert "second" in found.others


def test_the_way_leads_from_the_first_carrier_to_the_output() -> None:
    graph = residual(6).to_networkx()
    found = blocked_by(graph, "head")
    assert (found.at, found.way, found.others) == ("output", ("head", "output"), ())


class Positions(nn.Module):
    """As many rows of a table are added as the input is long."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(1, 16, 8))
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x) + self.table[:, : x.shape[1]])


def test_what_a_slice_leaves_out_is_blocked_at_the_slice() -> None:
    graph = analyzed(Positions(), torch.zeros(2, 5, 4)).to_networkx()
    found = blocked_by(graph, "table")
    assert found.reason == "not read with example inputs of this size"
    assert (found.by, found.at) == ("getitem_1", "getitem_1")
    assert found.way == ("table", "getitem_1")


def test_a_single_channel_is_its_own_reason() -> None:
    entry = ZOO["channel_shuffle_builtin"]
    graph = fxprune.analyze(entry.build().eval(), entry.example_inputs()).to_networkx()
    found = blocked_by(graph, "1.reduce.0")
    assert found == Blocked("it has a single channel, and one always stays")


def test_the_critical_path_takes_the_heavier_branch() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.light = nn.Linear(4, 8), nn.Linear(8, 8)
            self.heavy, self.back = nn.Linear(8, 64), nn.Linear(64, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.light(x) + self.back(self.heavy(x))

    found = critical_path(analyzed(Branches(), torch.zeros(1, 4)).to_networkx())
    assert dict(found.ops) == {"stem": 32, "heavy": 512, "back": 512}
    assert (found.macs, found.total) == (1056, 1120)


@pytest.mark.parametrize("name", ["dense_concat", "attention_windows_shifted", "recurrent_lstm"])
def test_a_critical_path_is_a_chain_and_no_longer_than_all_work(name: str) -> None:
    entry = ZOO[next(each for each in ZOO if each.startswith(name))]
    deps = fxprune.analyze(entry.build().eval(), entry.example_inputs())
    found = critical_path(deps.to_networkx())
    order = [node.name for node in deps.graph_module.graph.nodes]
    assert list(found.ops) == sorted(found.ops, key=order.index)
    assert 0 < found.macs == sum(found.ops.values()) <= found.total


@pytest.mark.parametrize("ask", [touched_by, blocked_by])
def test_a_group_that_is_not_there_is_refused(ask: Callable[..., Any]) -> None:
    with pytest.raises(fxprune.PlanError, match="stem"):
        ask(residual(6).to_networkx(), "sten")
