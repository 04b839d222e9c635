"""The closed form is the ridge regression that it says, and its errors are those of real rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fxprune.readings.moments import Covariance, Moments

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


def rest(x: Tensor, z: Tensor, kept: Tensor = KEPT) -> Tensor:
    """What is left of x, row by row."""
    left = x.clone()
    left[:, kept] -= z
    return left


def left_by(x: Tensor, z: Tensor, mixing: Tensor, *, about_mean: bool) -> Tensor:
    """The second moment of what is left of x by a fit, with the constant that is best for it."""
    left = rest(x, z) - z @ mixing.T
    left = left - left.mean(0) if about_mean else left
    return left.T @ left


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("about_mean", [False, True])
def test_the_closed_form_is_what_least_squares_finds(ridge: float, *, about_mean: bool) -> None:
    """`torch.linalg.lstsq` on all rows, and one more row for each penalty."""
    x, z = rows()
    centred = z - z.mean(0) if about_mean else z
    penalty = math.sqrt(ridge * float(centred.square().sum(0).mean()))
    left = torch.cat([z, penalty * torch.eye(len(KEPT), dtype=z.dtype)])
    right = torch.cat([rest(x, z), z.new_zeros(len(KEPT), x.shape[1])])
    if about_mean:
        ones = torch.cat([z.new_ones(len(z)), z.new_zeros(len(KEPT))])
        left = torch.cat([left, ones[:, None]], 1)
    found = torch.linalg.lstsq(left, right, driver="gelsd").solution
    mixing = measured(x, z).fit(ridge, about_mean=about_mean)
    torch.testing.assert_close(mixing, found[: len(KEPT)].T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("about_mean", [False, True])
def test_a_row_of_weight_two_counts_as_two_rows(*, about_mean: bool) -> None:
    """And one of weight 0 as none."""
    x, z = rows()
    times = torch.arange(len(x)) % 3
    heavy = Moments(KEPT, x.shape[1])
    heavy.add(x, z, times.double())
    repeated = measured(x.repeat_interleave(times, 0), z.repeat_interleave(times, 0))
    for one, other in zip(heavy.tensors(), repeated.tensors(), strict=True):
        torch.testing.assert_close(one, other)
    fits = [each.fit(1e-3, about_mean=about_mean) for each in (heavy, repeated)]
    torch.testing.assert_close(*fits)
    for is_whole in (False, True):
        sums = [Covariance(7, x.device, x.dtype, is_whole=is_whole) for _ in range(2)]
        sums[0].add(x, times.double())
        sums[1].add(x.repeat_interleave(times, 0))
        for one, other in zip(sums[0].tensors(), sums[1].tensors(), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("spread", "explains"), [(1e-3, True), (1e-8, False)])
def test_what_varies_by_rounding_alone_explains_nothing(spread: float, *, explains: bool) -> None:
    """Single precision tells 1 from 1 + 1e-3 in many steps, and from 1 + 1e-8 in none."""
    x, z = rows()
    x[:, 2], z[:, 1] = 1 + spread * x[:, 2], 1 + spread * z[:, 1]
    mixing = measured(x, z).fit(1e-9, about_mean=True)
    assert bool(mixing[:, 1].any()) == explains
    assert torch.isfinite(mixing).all()
    found = Covariance(3, z.device, torch.float32, is_whole=True)
    found.add(z)
    second = found.second(about_mean=True)
    assert bool(second[1].any()) == bool(second[:, 1].any()) == explains


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


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("about_mean", [False, True])
def test_no_outcome_of_a_layer_gets_worse(ridge: float, *, about_mean: bool) -> None:
    """Whatever the weights are: the fit is the best for each."""
    x, z = rows()
    mixing = measured(x, z).fit(ridge, about_mean=about_mean)
    before, after = (
        left_by(x, z, made, about_mean=about_mean) for made in (torch.zeros_like(mixing), mixing)
    )
    for weights in torch.randn(100, 7, dtype=torch.float64):
        assert weights @ after @ weights <= weights @ before @ weights * (1 + 1e-12)


def test_dead_channels_get_no_weight() -> None:
    """What is always zero explains nothing, with a ridge and without one."""
    x, z = rows()
    z[:, 1] = 0
    for ridge in (0.0, 1e-3):
        mixing = measured(x, z).fit(ridge, about_mean=True)
        assert not mixing[:, 1].any()
        assert torch.isfinite(mixing).all()


def test_without_kept_channels_nothing_is_explained() -> None:
    """There is no channel to explain by."""
    x, _ = rows()
    nothing = KEPT[:0]
    assert measured(x, x[:, nothing], nothing).fit(1e-3, about_mean=True).shape == (7, 0)
