"""Copies of modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxprune
from fxprune.module_trees import clone_tree


class Child(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(1)
        return x


class Parent(nn.Module):
    """Counts in a list that it shares with its child."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Child()
        self.seen = self.child.seen
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.clear()
        out: Tensor = self.last(self.child(self.first(x)).relu()) * len(self.seen)
        return out


def test_what_two_modules_share_their_copies_share() -> None:
    model = Parent()
    model.table = model.child.table = {"a": [1]}  # type: ignore[assignment]
    model.names = model.child.names = {"a"}  # type: ignore[assignment]
    copy = clone_tree(model, lambda tensor: tensor)
    for name in ("seen", "table", "names"):
        assert getattr(copy, name) is getattr(copy.child, name)
        assert getattr(copy, name) is not getattr(model, name)


def test_a_list_that_holds_itself_is_copied() -> None:
    model = Child()
    model.seen.append(model.seen)  # type: ignore[arg-type]
    copy = clone_tree(model, lambda tensor: tensor)
    assert copy.seen[0] is copy.seen


def test_a_model_that_counts_in_a_shared_list_computes_what_it_did() -> None:
    model, x = Parent().eval(), torch.randn(2, 4)
    small = fxprune.shrink(model, fxprune.plan(model, x), x)
    assert torch.allclose(small(x), model(x))
    assert bool(small(x).any())
