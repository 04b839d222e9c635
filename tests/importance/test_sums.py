"""How single weights are added up to what positions count, in pieces and at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import fxprune
from fxprune import InputError
from fxprune.importance import L2, criterion
from tests.peak_memory import most_memory


@pytest.mark.parametrize("piece", [3, 7, 40, 1 << 15])
@pytest.mark.parametrize("largest", [0, 1 << 18])
@pytest.mark.parametrize("shape", [(5,), (6, 4), (3, 5, 2), (4, 3, 2, 5), (1, 7, 3), (7, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_sums_are_those_over_all_other_dims(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    largest: int,
    piece: int,
) -> None:
    """In pieces of any size, in one sweep or dim by dim, for all dims or some."""
    monkeypatch.setattr(criterion, "LARGEST_PIECE", piece)
    monkeypatch.setattr(criterion, "LARGEST_SUM", largest)
    weights = torch.randn(shape).to(dtype)
    squares = weights.double().square().numpy()
    for dims in ([*range(len(shape))], [0], [len(shape) - 1], []):
        found = L2()._sums("weight", weights, dims)
        assert found is not None
        assert list(found) == dims
        for dim, sums in found.items():
            others = tuple(d for d in range(len(shape)) if d != dim)
            np.testing.assert_allclose(sums, squares.sum(others), rtol=1e-12)


def test_a_parameter_with_a_short_first_dim_takes_little_memory() -> None:
    """Stacked experts, of which a sum over the first dim is nearly as large as they are."""
    weights = torch.randn(2, 1024, 4096).bfloat16()
    for dims in ([0, 1, 2], [0]):
        _, most = most_memory(lambda dims=dims: L2()._sums("weight", weights, dims))
        assert most < 8 << 20


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_found(dtype: torch.dtype, value: float) -> None:
    """In parameters of all types; infinite buffers are masks."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)).to(dtype)
    with torch.no_grad():
        model[0].weight[3, 1] = value
    deps = fxprune.analyze(model, torch.zeros(1, 4, dtype=dtype))
    with pytest.raises(InputError, match=r"parameter 0\.weight contains NaN or infinite values"):
        fxprune.plan(deps, ratio=0.5)


def test_a_sum_that_overflows_is_no_value_that_is_infinite() -> None:
    """Large weights whose sum is infinite in their type, and two that cancel."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    plan = fxprune.plan(fxprune.analyze(model, torch.zeros(1, 4)), ratio=0.5)
    assert plan.groups["0"].removed


def test_weights_that_are_views_of_complex_ones_can_be_looked_through() -> None:
    """Imaginary parts of a conjugate have their sign in a bit, which NumPy does not know."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    model[0].weight = nn.Parameter(torch.randn(6, 4, dtype=torch.complex64).conj().imag)
    assert model[0].weight.is_neg()
    plan = fxprune.plan(fxprune.analyze(model, torch.zeros(1, 4)), ratio=0.5)
    assert len(plan.groups["0"].removed) == 3
