"""Arguments by name, and what is written where."""

from __future__ import annotations

import pytest
import torch
from torch import fx
from torch._ops import OpOverload

from fxprune.labels import LabelAlgebra
from fxprune.rules import Call, Place, axes_of, lookup, put_axes, put_value, value_of

aten = torch.ops.aten


@pytest.fixture
def labels() -> LabelAlgebra:
    labels = LabelAlgebra()
    labels.place = Place(fx.Graph().placeholder("node"))
    return labels


def fresh(labels: LabelAlgebra, *shape: int) -> torch.Tensor:
    tensor = torch.empty(shape, device="meta")
    put_axes(tensor, [labels.fresh_axis(size) for size in shape])
    return tensor


def ids(labels: LabelAlgebra, tensor: torch.Tensor, dim: int) -> list[list[int]]:
    return [vector.tolist() for vector in labels.leaves(axes_of(tensor, labels)[dim])]


def run(labels: LabelAlgebra, op: OpOverload, *args: object, **kwargs: object) -> torch.Tensor:
    """Run an operator and its rule."""
    rule = lookup(op)
    assert rule is not None
    out: torch.Tensor = op(*args, **kwargs)
    rule.propagate(Call(labels, op, args, kwargs, out))
    return out


def test_arguments_are_found_by_position_by_keyword_and_by_default(labels: LabelAlgebra) -> None:
    call = Call(labels, aten.slice.Tensor, (torch.zeros(3), 0), {"end": 2})
    assert (call.arg("dim"), call.arg("start"), call.arg("end"), call.arg("step")) == (
        0,
        None,
        2,
        1,
    )
    assert call.has("step")
    assert not call.has("shape")
    assert call.name == "slice"


def test_arguments_are_replaced_where_they_were(labels: LabelAlgebra) -> None:
    call = Call(labels, aten.slice.Tensor, (torch.zeros(3), 0), {"end": 2})
    args, kwargs = call.replaced(self="x", end=3, step=2)
    assert (args, kwargs) == (["x", 0], {"end": 3, "step": 2})


def test_the_name_of_an_in_place_operator_is_that_of_the_functional_one(
    labels: LabelAlgebra,
) -> None:
    assert Call(labels, aten.cumsum_.default, (), {}).name == "cumsum"


@pytest.mark.parametrize(("dim", "expected"), [(0, 0), (1, 1), (-1, 1)])
def test_dims_are_counted_from_the_front(labels: LabelAlgebra, dim: int, expected: int) -> None:
    assert Call(labels, aten.cumsum.default, (torch.zeros(2, 3), dim), {}).dim() == expected


def test_tensors_are_found_in_lists(labels: LabelAlgebra) -> None:
    a, b = torch.zeros(1), torch.zeros(2)
    call = Call(labels, aten.cat.default, ([a, b],), {})
    assert call.tensors() == (a, b)
    call.take(([b],), {})
    assert call.tensors() == (b,)


def test_a_tensor_that_nobody_labelled_is_pinned(labels: LabelAlgebra) -> None:
    assert ids(labels, torch.zeros(2, 3), 0) == []


def test_labels_of_another_shape_are_refused(labels: LabelAlgebra) -> None:
    with pytest.raises(AssertionError, match="do not fit"):
        put_axes(torch.zeros(2), [labels.fresh_axis(3)])


def test_integers_have_a_value_and_numbers_without_data_have_none() -> None:
    positions, shadow = torch.tensor([2, 0]), torch.empty(2, dtype=torch.int64, device="meta")
    assert value_of(positions) is positions
    assert value_of(torch.zeros(2)) is None
    assert value_of(shadow) is None
    put_value(shadow, positions)
    assert value_of(shadow) is positions


def test_what_is_written_into_a_tensor_is_one_with_it(labels: LabelAlgebra) -> None:
    x, y = fresh(labels, 2, 3), fresh(labels, 3)
    assert run(labels, aten.add_.Tensor, x, y) is x
    assert ids(labels, y, 0) == ids(labels, x, 1) == [[3, 4, 5]]


def test_what_is_written_into_a_slice_is_one_with_the_whole(labels: LabelAlgebra) -> None:
    whole, part = fresh(labels, 5), fresh(labels, 3)
    run(labels, aten.copy_.default, run(labels, aten.slice.Tensor, whole, 0, 1, 4), part)
    assert ids(labels, part, 0) == [[2, 3, 4]]


def test_out_is_one_with_what_is_written_into_it(labels: LabelAlgebra) -> None:
    a, b, buffer = fresh(labels, 2, 3), fresh(labels, 3, 4), fresh(labels, 2, 6)
    window = run(labels, aten.slice.Tensor, buffer, 1, 0, 4)
    run(labels, aten.mm.out, a, b, out=window)
    assert ids(labels, a, 0) == ids(labels, buffer, 0)
    assert ids(labels, buffer, 1)[0][:4] == ids(labels, b, 1)[0]


def test_running_in_place_pins_what_was_there(labels: LabelAlgebra) -> None:
    whole = fresh(labels, 5)
    run(labels, aten.cumsum_.default, run(labels, aten.slice.Tensor, whole, 0, 0, 3), 0)
    assert ids(labels, whole, 0) == [[0, 0, 0, 4, 5]]


def test_transposing_in_place_couples_nothing(labels: LabelAlgebra) -> None:
    x = fresh(labels, 3, 3)
    run(labels, aten.t_.default, x)
    assert (ids(labels, x, 0), ids(labels, x, 1)) == ([[4, 5, 6]], [[1, 2, 3]])


def test_as_strided_of_a_transposed_tensor_is_not_taken_for_a_copy(labels: LabelAlgebra) -> None:
    x = run(labels, aten.t.default, fresh(labels, 3, 3))
    out = run(labels, aten.as_strided.default, x, [3, 3], [3, 1])
    assert ids(labels, x, 0) == ids(labels, out, 0) == []


def test_a_mask_pins_the_axes_that_it_lies_on(labels: LabelAlgebra) -> None:
    x = torch.zeros(3, 3, 3)
    put_axes(x, [labels.fresh_axis(3) for _ in range(3)])
    run(labels, aten.index.Tensor, x, [torch.eye(3, dtype=torch.bool)])
    assert [bool(ids(labels, x, dim)) for dim in range(3)] == [False, False, True]
