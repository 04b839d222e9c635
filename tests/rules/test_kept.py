"""Operators on kept positions: slicing operands, putting outputs back."""

from __future__ import annotations

import torch

from fxprune.labels import LabelAlgebra
from fxprune.rules import Call
from fxprune.rules.kept import sliced, sliced_and_spread, spread, take

aten = torch.ops.aten
X = torch.arange(12.0).reshape(3, 4)
KEPT = {0: torch.tensor([0, 2]), 1: torch.tensor([1, 3])}


def test_take_slices_along_several_dims() -> None:
    assert take(X, KEPT).tolist() == [[1, 3], [9, 11]]


def test_take_can_count_dims_from_a_later_one() -> None:
    assert take(X[0], {1: KEPT[1]}, shift=1).tolist() == [1, 3]


def test_spread_puts_positions_back_between_zeros() -> None:
    back = spread(X, KEPT, take(X, KEPT))
    assert back.tolist() == [[0, 1, 0, 3], [0, 0, 0, 0], [0, 9, 0, 11]]


def test_spreading_everything_changes_nothing() -> None:
    everything = {0: torch.arange(3), 1: torch.arange(4)}
    assert torch.equal(spread(X, everything, take(X, everything)), X)


def test_a_reduction_runs_on_the_kept_positions() -> None:
    call = Call(LabelAlgebra(), aten.mean.dim, (X, [1]), {})
    assert sliced(call, {"self": {1: KEPT[1]}}).tolist() == [2, 6, 10]


def test_every_output_of_an_operator_is_put_back() -> None:
    call = Call(LabelAlgebra(), aten.cummax.default, (X, 1), {})
    values, indices = sliced_and_spread(call, {"self": {1: KEPT[1]}})
    assert values[0].tolist() == [0, 1, 0, 3]
    assert indices[0].tolist() == [0, 0, 0, 1]
