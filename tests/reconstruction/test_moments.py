"""The closed form is the ridge regression that it says, and its errors are those of real rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fxprune.readings.moments import Fit, Moments

KEPT = torch.tensor([0, 2, 5])


def rows(count: int = 40, size: int = 7) -> tuple[Tensor, Tensor]:
    """What a layer read, correlated and not centred, and what it reads now, which is near it."""
    torch.manual_seed(0)
    x = torch.randn(count, 4, dtype=torch.float64) @ torch.randn(4, size, dtype=torch.float64)
    x += torch.randn(size, dtype=torch.float64) + 0.1 * torch.randn_like(x)
    return x, x[:, KEPT] + 0.2 * torch.randn(count, len(KEPT), dtype=torch.float64)


def measured(x: Tensor, z: Tensor, kept: Tensor = KEPT) -> Moments:
    moments = Moments(kept, x.shape[1])
    moments.add(x, z)
    return moments


def rest(x: Tensor, z: Tensor, fit: Fit | None = None, kept: Tensor = KEPT) -> Tensor:
    """What is left of x, row by row."""
    left = x.clone()
    left[:, kept] -= z
    return left if fit is None else left - z @ fit.mixing.T - fit.intercept


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("with_intercept", [False, True])
def test_the_closed_form_is_what_least_squares_finds(ridge: float, *, with_intercept: bool) -> None:
    """`torch.linalg.lstsq` on all rows, and one more row for each penalty."""
    x, z = rows()
    fit = measured(x, z).fit(ridge, with_intercept=with_intercept)
    centred = z - z.mean(0) if with_intercept else z
    penalty = math.sqrt(ridge * float(centred.square().sum(0).mean()))
    left = torch.cat([z, penalty * torch.eye(len(KEPT), dtype=z.dtype)])
    right = torch.cat([rest(x, z), z.new_zeros(len(KEPT), x.shape[1])])
    if with_intercept:
        ones = torch.cat([z.new_ones(len(z)), z.new_zeros(len(KEPT))])
        left = torch.cat([left, ones[:, None]], 1)
    found = torch.linalg.lstsq(left, right, driver="gelsd").solution
    torch.testing.assert_close(fit.mixing, found[: len(KEPT)].T, rtol=1e-9, atol=1e-9)
    expected = found[-1] if with_intercept else torch.zeros_like(fit.intercept)
    torch.testing.assert_close(fit.intercept, expected, rtol=1e-9, atol=1e-9)


def test_batches_add_up() -> None:
    """Moments of parts are those of the whole."""
    x, z = rows()
    parts = Moments(KEPT, x.shape[1])
    for own, other in zip(x.split(7), z.split(7), strict=True):
        parts.add(own, other)
    for one, other in zip(parts.tensors(), measured(x, z).tensors(), strict=True):
        torch.testing.assert_close(one, other)


def test_float32_rows_are_added_up_in_float64() -> None:
    """Rows of a narrower type lose nothing more."""
    x, z = (each.float() for each in rows())
    assert all(each.dtype == torch.float64 for each in measured(x, z).tensors())
    torch.testing.assert_close(measured(x, z).xz, x.double().T @ z.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("fit", [None, Fit(torch.randn(7, 3).double(), torch.randn(7).double())])
def test_errors_are_those_of_the_rows(fit: Fit | None) -> None:
    """The second moment of what is left of x, by any fit."""
    x, z = rows()
    left = rest(x, z, fit)
    torch.testing.assert_close(measured(x, z).error(fit), left.T @ left / len(x))
    torch.testing.assert_close(measured(x, z).spread(), torch.cov(x.T, correction=0))


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("with_intercept", [False, True])
def test_no_outcome_of_a_layer_gets_worse(ridge: float, *, with_intercept: bool) -> None:
    """Whatever the weights are: the fit is the best for each."""
    moments = measured(*rows())
    before, after = (
        moments.error(),
        moments.error(moments.fit(ridge, with_intercept=with_intercept)),
    )
    for weights in torch.randn(100, 7, dtype=torch.float64):
        assert weights @ after @ weights <= weights @ before @ weights * (1 + 1e-12)


def test_dead_channels_get_no_weight() -> None:
    """What is always zero explains nothing, with a ridge and without one."""
    x, z = rows()
    z[:, 1] = 0
    for ridge in (0.0, 1e-3):
        fit = measured(x, z).fit(ridge, with_intercept=True)
        assert fit.mixing[:, 1].abs().max() < 1e-9
        assert torch.isfinite(fit.mixing).all()


def test_without_kept_channels_the_mean_is_left() -> None:
    """Nothing explains what was read but its mean."""
    x, _ = rows()
    nothing = KEPT[:0]
    moments = measured(x, x[:, nothing], nothing)
    fit = moments.fit(1e-3, with_intercept=True)
    assert fit.mixing.shape == (7, 0)
    torch.testing.assert_close(fit.intercept, x.mean(0))
    torch.testing.assert_close(moments.error(fit), moments.spread())
