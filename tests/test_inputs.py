"""Example inputs: every accepted form, every refused one, and their description."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from fxprune import InputError
from fxprune.inputs import InputSpec, bind, describe, materialize

X, Y = torch.zeros(2, 3), torch.ones(2, 3)


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Defaults(nn.Module):
    def forward(self, x: Tensor, scale: float = 2.0, *, shift: float | None = None) -> Tensor:
        return x * scale


TWO, DEFAULTS = fx.symbolic_trace(Two()), fx.symbolic_trace(Defaults())
ONE = fx.symbolic_trace(nn.ReLU())


def same(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(
    "given", [X, (X,), [X], {"input": X}], ids=["tensor", "tuple", "list", "dict"]
)
def test_one_argument_can_be_given_in_every_form(given: Any) -> None:
    assert same(bind(ONE, given), (X,))


@pytest.mark.parametrize(
    "given", [(X, Y), [X, Y], {"x": X, "y": Y}, {"y": Y, "x": X}], ids=["tuple", "list", "xy", "yx"]
)
def test_several_arguments_are_bound_in_the_order_of_the_graph(given: Any) -> None:
    assert same(bind(TWO, given), (X, Y))


def test_arguments_that_are_not_given_take_their_defaults() -> None:
    assert bind(DEFAULTS, X)[1:] == (2.0, None)


def test_a_given_argument_wins_over_its_default() -> None:
    assert bind(DEFAULTS, {"x": X, "shift": 0.5})[1:] == (2.0, 0.5)
    assert bind(DEFAULTS, (X, 3.0))[1:] == (3.0, None)


def test_arguments_of_any_number_are_none_if_not_given() -> None:
    class Variadic(nn.Module):
        def forward(self, x: Tensor, *more: Tensor, **named: Tensor) -> Tensor:
            return x * 2

    assert bind(fx.symbolic_trace(Variadic()), X) == (X, (), {})


def test_binding_leaves_the_given_dict_alone() -> None:
    given = {"x": X}
    bind(DEFAULTS, given)
    assert list(given) == ["x"]


def test_missing_inputs_are_an_error_that_names_the_arguments() -> None:
    with pytest.raises(InputError, match="example inputs are missing") as caught:
        bind(TWO, None)
    assert "['x', 'y']" in caught.value.hint


@pytest.mark.parametrize("given", [X, (X,), {"x": X}], ids=["tensor", "tuple", "dict"])
def test_a_missing_argument_is_named(given: Any) -> None:
    with pytest.raises(InputError, match="'y'") as caught:
        bind(TWO, given)
    assert "['x', 'y']" in caught.value.why


def test_an_unknown_argument_is_named_beside_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown arguments \['mask'\]") as caught:
        bind(TWO, {"x": X, "y": Y, "mask": X})
    assert "['x', 'y']" in caught.value.why


def test_too_many_arguments_are_counted() -> None:
    with pytest.raises(InputError, match="3 example inputs for a model of 2 arguments"):
        bind(TWO, (X, Y, X))


@pytest.mark.parametrize("given", ["1x3x224x224", 3, {1, 2}], ids=["text", "number", "set"])
def test_inputs_of_another_type_are_refused_by_their_type(given: Any) -> None:
    with pytest.raises(InputError, match=type(given).__name__) as caught:
        bind(ONE, given)
    assert "pass a tensor, a tuple of arguments, or a dict" in caught.value.hint


FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGER = (torch.int64, torch.int32, torch.uint8, torch.bool)


@pytest.mark.parametrize("dtype", FLOATING + INTEGER, ids=str)
def test_a_sample_has_the_shape_and_dtype_of_the_described_tensor(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]], dtype=dtype)
    sample = InputSpec.of(tensor).sample(torch.Generator())
    assert (sample.shape, sample.dtype) == (tensor.shape, tensor.dtype)


@pytest.mark.parametrize("dtype", FLOATING + INTEGER, ids=str)
def test_an_empty_one_has_the_shape_and_dtype_and_no_data(dtype: torch.dtype) -> None:
    empty = InputSpec.of(torch.ones(2, 3, dtype=dtype)).empty()
    assert (tuple(empty.shape), empty.dtype, empty.device.type) == ((2, 3), dtype, "meta")


def test_sampled_integers_stay_in_the_range_of_the_described_ones() -> None:
    tokens = torch.tensor([7, 9, 12, 8])
    spec = InputSpec.of(tokens)
    assert (spec.low, spec.high) == (7, 13)
    sample = InputSpec((1000,), spec.dtype, spec.low, spec.high).sample(torch.Generator())
    assert set(sample.tolist()) == set(range(7, 13))


def test_the_description_of_a_description_is_the_same() -> None:
    spec = InputSpec.of(torch.tensor([[3, 4], [5, 6]]))
    again = InputSpec.of(torch.tensor([[3, 6], [3, 6]]))
    assert spec == again == InputSpec((2, 2), "int64", 3, 7)


def test_a_tensor_without_data_or_elements_can_be_described() -> None:
    assert InputSpec.of(torch.empty(2, 3, dtype=torch.int64, device="meta")).shape == (2, 3)
    assert InputSpec.of(torch.empty(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("dtype", ["float31", "relu", ""])
def test_a_description_with_a_dtype_that_is_none_is_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match="is not a dtype"):
        InputSpec((2,), dtype)


@pytest.mark.parametrize(("shape", "low", "high"), [((-1,), 0, 1), ((2,), 3, 3)])
def test_a_description_of_no_tensor_is_refused(shape: tuple[int, ...], low: int, high: int) -> None:
    with pytest.raises(ValueError, match="no tensor has shape"):
        InputSpec(shape, "int64", low, high)


def test_tensors_are_described_wherever_they_are_nested() -> None:
    described = describe(({"a": X, "b": (1, None)}, [Y], 2.5))
    spec = InputSpec((2, 3), "float32")
    assert described == ({"a": spec, "b": (1, None)}, [spec], 2.5)


def test_described_values_can_be_made_again_in_the_same_nesting() -> None:
    ((mapping, number),) = materialize([({"a": InputSpec((2, 3), "float32")}, 4)], seed=0)
    assert (mapping["a"].shape, number) == ((2, 3), 4)


def test_made_values_depend_on_the_seed_alone() -> None:
    specs = [InputSpec((5,), "float32"), InputSpec((5,), "int64", 0, 1000)]
    first, again, other = (materialize(specs, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_without_a_seed_meta_tensors_are_made() -> None:
    (made,) = materialize([InputSpec((4,), "float16")], None)
    assert (made.device.type, made.dtype) == ("meta", torch.float16)
