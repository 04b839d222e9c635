"""Memory that is used again."""

from __future__ import annotations

import torch

from fxprune.differences import difference
from fxprune.values import Scratch, taken


def test_memory_of_one_purpose_is_used_again_and_that_of_another_is_not() -> None:
    scratch, like = Scratch(), torch.zeros(2, 3)
    first = scratch.like(like, (2, 3), "left")
    assert scratch.like(like, (3,), "left").data_ptr() == first.data_ptr()
    assert scratch.like(like, (2, 3), "right").data_ptr() != first.data_ptr()
    assert scratch.like(like.double(), (2, 3), "left").dtype is torch.float64
    assert scratch.like(like, (40, 3), "left").shape == (40, 3)  # it grows


def test_what_is_taken_into_memory_is_what_is_taken_without() -> None:
    scratch, tensor = Scratch(), torch.randn(4, 5, 6).transpose(0, 2)
    for dim in range(3):
        index = torch.tensor([3, 1])
        shape = [2 if d == dim else size for d, size in enumerate(tensor.shape)]
        out = taken(tensor, dim, index, scratch.like(tensor, shape, "taken"))
        assert torch.equal(out, tensor.index_select(dim, index))


def test_a_difference_is_the_same_with_and_without_memory() -> None:
    scratch = Scratch()
    for shape in ((3, 4), (2, 2), ()):
        left, right = torch.randn(shape), torch.randn(shape)
        assert difference(left, right, scratch) == difference(left, right)
        assert difference(left, left / 0, scratch) == (torch.inf, torch.inf)
