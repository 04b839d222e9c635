"""Whether outputs are alike beside the values of their tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fxprune.differences import alike


class Layer:
    """An object without tensors, as an empty layer of a cache is."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Compared(Layer):
    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


class Derived(Layer):
    pass


def test_objects_that_compare_by_identity_are_alike_by_their_attributes() -> None:
    assert alike([Layer(size=1, inner=Layer(of=None))], [Layer(size=1, inner=Layer(of=None))])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Layer(size=1), Layer(size=2)),
        (Layer(size=1), Layer(size=1, more=2)),
        (Layer(size=1), Layer(size=1.0, more=None)),
        (Layer(size=1), Derived(size=1)),
        (Layer(), Layer()),
        (Layer(inner=Layer(of=1)), Layer(inner=Layer(of=2))),
        (Compared(size=1), Compared(size=1)),
        (Layer(size=1), {"size": 1}),
        (Layer(size=1), torch.ones(1)),
        (lambda: 1, lambda: 1),
    ],
)
def test_what_differs_in_type_or_attributes_is_not_alike(one: Any, other: Any) -> None:
    assert not alike(one, other)


def test_objects_that_hold_one_another_end() -> None:
    one, other = Layer(), Layer()
    one.self, other.self = one, other  # type: ignore[attr-defined]
    assert not alike(one, other)
