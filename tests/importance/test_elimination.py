"""Units are taken out in the right order, and errors grow by what a regression says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from fxprune.importance.elimination import Reader, eliminated

PLACES = {
    "single positions, others are kept": [[0], [3], [4], [9], [7]],
    "several positions": [[0, 5], [1, 2], [3, 11], [6, 7]],
    "units of different sizes": [[0, 5, 8], [3], [1, 2]],
    "a unit that is read nowhere": [[1], [], [2, 4]],
}


def arrays(places: Sequence[Sequence[int]]) -> list[np.ndarray]:
    return [np.array(each, dtype=np.intp) for each in places]


def reader(seed: int, size: int = 12) -> tuple[Tensor, Tensor]:
    """Rows of correlated data, and a weight that reads them."""
    generator = torch.Generator().manual_seed(seed)
    few = torch.randn(80, 5, generator=generator, dtype=torch.float64)
    mixed = few @ torch.randn(5, size, generator=generator, dtype=torch.float64)
    x = mixed + 0.2 * torch.randn(80, size, generator=generator, dtype=torch.float64)
    return x, torch.randn(3, size, generator=generator, dtype=torch.float64)


def error(x: Tensor, weight: Tensor, gone: Sequence[int]) -> float:
    """What is left of W x after the best regression on the other positions."""
    kept = x[:, [place for place in range(x.shape[1]) if place not in gone]]
    y = x @ weight.T
    return float((y - kept @ torch.linalg.lstsq(kept, y).solution).square().sum())


def of(data: Sequence[tuple[Tensor, Tensor]], places: Sequence[Sequence[int]]) -> list[Reader]:
    return [Reader(x.T @ x, w.T @ w, arrays(places), 1.0) for x, w in data]


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_growths_add_up_to_the_error_of_a_regression(places: list[list[int]]) -> None:
    data = [reader(0), reader(1)]
    order, growth = eliminated(of(data, places), torch.zeros(len(places), dtype=torch.float64))
    for count in range(1, len(places) + 1):
        gone = [place for unit in order[:count] for place in places[unit]]
        expected = sum(error(x, weight, gone) for x, weight in data)
        assert growth[:count].sum() == pytest.approx(expected, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_the_one_that_is_missed_least_goes_first(places: list[list[int]]) -> None:
    x, weight = reader(2)
    alone = torch.linspace(0, 5, len(places), dtype=torch.float64)
    order, growth = eliminated(of([(x, weight)], places), alone)
    gone: list[int] = []
    left = [*range(len(places))]
    for unit, value in zip(order, growth, strict=True):
        now = error(x, weight, gone)
        costs = {u: float(alone[u]) + error(x, weight, [*gone, *places[u]]) - now for u in left}
        assert unit == min(costs, key=lambda u: costs[u])
        assert value == pytest.approx(costs[unit], rel=1e-7, abs=1e-9)
        left.remove(unit)
        gone += places[unit]


def test_of_many_units_matrices_get_smaller_and_nothing_else_changes() -> None:
    x, weight = reader(3, size=40)
    places = [[place] for place in range(40)]
    order, growth = eliminated(of([(x, weight)], places), torch.zeros(40, dtype=torch.float64))
    assert sorted(order) == [*range(40)]
    assert growth.sum() == pytest.approx(float((x @ weight.T).square().sum()), rel=1e-6)
    gone = [int(unit) for unit in order[:30]]
    assert growth[:30].sum() == pytest.approx(error(x, weight, gone), rel=1e-6)


def test_without_readers_units_go_by_what_they_count_alone() -> None:
    order, growth = eliminated([], torch.tensor([0.3, 0.1, 0.2], dtype=torch.float64))
    assert order.tolist() == [1, 2, 0]
    assert growth.tolist() == pytest.approx([0.1, 0.2, 0.3])
