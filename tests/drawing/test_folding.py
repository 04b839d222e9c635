"""Repeated blocks are drawn once if they are the same, and only then."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxprune
from fxprune.drawing import picture_of
from fxprune.drawing.folding import folded
from tests.drawing.models import IMAGE, Residual, analyzed, residual


def folds(deps: fxprune.DependencyGraph, plan: fxprune.Plan | None = None) -> list[tuple[str, ...]]:
    return list(folded(picture_of(deps, plan)).folds.values())


def test_a_run_of_like_blocks_becomes_its_first_block() -> None:
    picture = folded(picture_of(residual(6, 6, 6, 4)))
    assert picture.folds == {"blocks.0": ("blocks.0", "blocks.1", "blocks.2")}
    assert not any("blocks_1" in node.name or "blocks_2" in node.name for node in picture.nodes)
    edges = {(edge.source, edge.target) for edge in picture.edges}
    assert {("stem", "add"), ("add", "blocks_3_conv1"), ("add", "add_3")} <= edges
    assert not any(name in ("add_1", "add_2") for edge in edges for name in edge)


def test_the_totals_count_every_block() -> None:
    whole = picture_of(residual(6, 6, 6))
    assert (folded(whole).parameters, folded(whole).macs) == (whole.parameters, whole.macs)


def test_blocks_of_other_widths_stay_apart() -> None:
    assert folds(residual(6, 4, 6)) == []


def test_blocks_that_a_plan_makes_different_stay_apart() -> None:
    deps = residual(6, 6, 6)
    plan = fxprune.plan(deps, IMAGE, channels={"blocks.1.conv1": [0]})
    assert folds(deps, plan) == []
    plan = fxprune.plan(deps, IMAGE, channels={"blocks.0.conv1": [0, 1]})
    assert folds(deps, plan) == [("blocks.1", "blocks.2")]


class Tapped(Residual):
    """The head reads what the second of three blocks puts out, too."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return self.head((x * found[1]).mean((2, 3)))


def test_a_block_that_something_else_reads_ends_a_run() -> None:
    assert folds(analyzed(Tapped(6, 6, 6))) == [("blocks.0", "blocks.1")]


class Conditional(nn.Module):
    """A block that a condition scales."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x + self.two(self.one(x) * condition)


class Conditioned(nn.Module):
    """Every block reads the same condition, or each one of its own."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.own = own
        self.make = nn.ModuleList(nn.Linear(4, 8) for _ in range(3))
        self.blocks = nn.ModuleList(Conditional() for _ in range(3))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        made = [make(condition) for make in self.make]
        for index, block in enumerate(self.blocks):
            x = block(x, made[index if self.own else 0])
        return x


def test_blocks_may_read_the_same_from_outside_but_nothing_each_of_its_own() -> None:
    inputs = (torch.zeros(2, 8), torch.zeros(2, 4))
    assert folds(analyzed(Conditioned(own=False), inputs)) == [("blocks.0", "blocks.1", "blocks.2")]
    assert folds(analyzed(Conditioned(own=True), inputs)) == []


class Again(Residual):
    """All blocks in turn, and then once more; or each twice before the next."""

    def __init__(self, *, in_turn: bool) -> None:
        super().__init__(6, 6)
        self.in_turn = in_turn

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.blocks
        order = (one, two, one, two) if self.in_turn else (one, one, two, two)
        x = self.stem(x)
        for block in order:
            x = block(x)
        return self.head(x.mean((2, 3)))


def test_blocks_that_are_called_in_turn_again_stay_apart() -> None:
    assert folds(analyzed(Again(in_turn=True))) == []
    assert folds(analyzed(Again(in_turn=False))) == [("blocks.0", "blocks.1")]


class Both(nn.Module):
    """Two layers; both results are returned."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.one(x)
        return x, self.two(x)


class Inner(nn.Module):
    """Every block reads what the one before has inside, the head what the last puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Both() for _ in range(4))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x, out = block(x)
        return self.head(out)


def test_a_block_that_is_read_at_another_place_stays_apart() -> None:
    assert folds(analyzed(Inner(), torch.zeros(2, 8))) == [("blocks.1", "blocks.2")]
