"""Runs in float64 of functions that name narrower types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from fxprune.errors import InputError
from fxprune.labels import LabelAlgebra
from fxprune.precision import Precision, Widening
from fxprune.reference import MaskedMode, QuietMode
from fxprune.rules import put_axes
from fxprune.rules.place import Place

aten = torch.ops.aten
X = torch.linspace(-1, 1, 7, dtype=torch.float64)
SINGLE = {"dtype": torch.float32}


def wide(function: Callable[[Tensor], Any], home: torch.dtype | None = torch.float32) -> Any:
    """What a function makes of a copy of X in a run in float64."""
    with torch.no_grad(), QuietMode(Widening(home)):
        return function(X.clone())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.float() / 3,
        lambda x: x.half() / 3,
        lambda x: x.to(torch.bfloat16) / 3,
        lambda x: x.to(torch.float32, copy=True) / 3,
        lambda x: x.type(torch.float32) / 3,
        lambda x: x.type_as(torch.ones(1)) / 3,
        lambda x: aten.to.dtype(x, torch.float32) / 3,
        lambda x: aten._to_copy.default(x, **SINGLE) / 3,
        lambda x: torch.zeros(7, **SINGLE).copy_(x) / 3,
        lambda x: torch.empty_like(x, **SINGLE).add_(x) / 3,
        lambda x: (x.cfloat() / 3).real,
        lambda x: torch.view_as_complex(x.float().repeat(2).reshape(2, 7).T.contiguous()).imag / 3,
        lambda x: x.cumsum(0, **SINGLE).diff(prepend=torch.zeros(1)) / 3,
    ],
)
def test_a_type_that_is_named_becomes_float64(function: Callable[[Tensor], Tensor]) -> None:
    out = wide(function)
    assert out.dtype is torch.float64
    torch.testing.assert_close(out, X / 3, rtol=1e-15, atol=1e-15)


def test_a_softmax_in_another_type_is_one_in_float64() -> None:
    expected = X.softmax(0)
    assert torch.equal(wide(lambda x: F.softmax(x, 0, dtype=torch.float32)), expected)
    assert torch.equal(wide(lambda x: aten.softmax.int(x, 0, torch.float32)), expected)


@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.full((3,), 0.1),
        lambda: torch.tensor([0.1, 0.7]),
        lambda: torch.arange(0, 1, 0.1, **SINGLE),
        lambda: torch.arange(5) / 3,
        lambda: torch.arange(5).to(torch.float32),
        lambda: torch.arange(5).float(),
        lambda: torch.ones(3, dtype=torch.bfloat16),
    ],
)
def test_what_is_made_of_no_numbers_is_rounded_as_always(made: Callable[[], Tensor]) -> None:
    out = wide(lambda x: made())
    assert out.dtype is torch.float64
    assert torch.equal(out, made().double())


def test_other_types_stay() -> None:
    assert wide(lambda x: x.long()).dtype is torch.int64
    assert wide(lambda x: x > 0).dtype is torch.bool
    assert wide(lambda x: x.to(torch.float8_e4m3fn)).dtype is torch.float8_e4m3fn
    assert torch.finfo(wide(lambda x: x.cdouble()).dtype).bits == 64


def test_outside_of_the_run_nothing_changes() -> None:
    wide(lambda x: x.float())
    assert X.float().dtype is torch.float32
    with QuietMode():
        assert X.float().dtype is torch.float32


# -- shared memory --------------------------------------------------------------------------


def written(cast: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that writes into a cast, and returns what was cast."""

    def function(x: Tensor) -> Tensor:
        cast(x).add_(1)
        return x

    return function


def test_a_cast_to_the_models_own_type_shares_memory() -> None:
    assert torch.equal(wide(written(lambda x: x.float())), X + 1)
    assert torch.equal(wide(written(lambda x: x.to("cpu", torch.float32))), X + 1)
    assert torch.equal(wide(written(lambda x: x.to(torch.float32, copy=True))), X)
    assert torch.equal(wide(written(lambda x: aten._to_copy.default(x, **SINGLE))), X)


@pytest.mark.parametrize("home", [None, torch.bfloat16])
def test_a_write_into_what_may_be_shared_is_an_error(home: torch.dtype | None) -> None:
    with pytest.raises(InputError, match="may be one with a cast"):
        wide(written(lambda x: x.float()), home)
    with pytest.raises(InputError, match="may be one with a cast"):
        wide(written(lambda x: x.float()[2:]), home)
    assert torch.equal(wide(lambda x: x.float().add(1).mul_(2), home), (X + 1) * 2)


def test_another_type_in_the_middle_makes_casts_unclear() -> None:
    with pytest.raises(InputError, match="may be one with a cast"):
        wide(written(lambda x: x.bfloat16().float()))
    with pytest.raises(InputError, match="may be one with a cast"):
        wide(written(lambda x: x.double().float()))


def test_bits_that_are_read_as_another_type_are_an_error() -> None:
    with pytest.raises(InputError, match="bits"):
        wide(lambda x: x.view(torch.int32))


# -- operators without a kernel -------------------------------------------------------------


def test_a_grouped_product_is_one_for_each_group() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(16, 8, generator=generator)
    weights = torch.randn(2, 8, 16, generator=generator)
    ends = torch.tensor([8, 16], dtype=torch.int32)
    for a, b, offs in [
        (rows, weights, ends),
        (weights.mT.contiguous(), rows.T.contiguous(), ends),
        (rows.T.contiguous(), rows, ends),
        (weights.mT.contiguous(), weights, None),
    ]:
        with QuietMode():
            out = torch._grouped_mm(a.double(), b.double(), offs=offs)
        expected = torch._grouped_mm(a.bfloat16(), b.bfloat16(), offs=offs)
        assert out.dtype is torch.float64
        torch.testing.assert_close(out, expected.double(), rtol=0.02, atol=0.1)


# -- the types of a model -------------------------------------------------------------------


def test_the_type_that_rounds_most_is_found() -> None:
    given = [torch.ones(1), torch.ones(1).bfloat16(), torch.arange(2)]
    tolerances = {torch.float32: 1e-4, torch.bfloat16: 0.1}
    own = Precision.of(given, [])
    assert own.narrowest(tolerances) is torch.bfloat16
    assert own.home is None
    assert [p.narrowest(tolerances) for p in own.widest()] == [torch.float64] * 2
    assert Precision.of([], []).narrowest(tolerances) is torch.float32


def test_complex_numbers_are_of_the_type_of_their_parts() -> None:
    assert Precision.of([torch.ones(1)], [torch.ones(1).cfloat()]).home is torch.float32
    assert Precision.of([torch.ones(1)], [torch.ones(1).cdouble()]).home is None


def test_a_run_under_inference_mode_ends_and_leaves_no_mode_on() -> None:
    """There operators arrive whole, and what they consist of is asked for in the run."""
    labels = LabelAlgebra()
    labels.place = Place(fx.Graph().placeholder("node"))
    weight = torch.ones(2, 1, 3, dtype=torch.float64)
    run = MaskedMode(labels, lambda axis: np.zeros(axis.size, bool), Widening(torch.float32))
    with torch.inference_mode():
        image = X.view(1, 1, 7)
        for tensor in (image, weight):
            put_axes(tensor, [labels.pinned_axis(size) for size in tensor.shape])
        with run:
            out = F.conv1d(image, weight)
        assert torch.equal(out, F.conv1d(image, weight))
    assert torch._C._len_torch_function_stack() == torch._C._len_torch_dispatch_stack() == 0
