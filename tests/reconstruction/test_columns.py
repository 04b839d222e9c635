"""Values of an operator by channel: a column for each one that is kept."""

from __future__ import annotations

import pytest
import torch

from fxprune.readings.parts import columns, in_blocks


@pytest.mark.parametrize("dim", [0, 1, 3])
@pytest.mark.parametrize("kept", [[0, 2], [1], []])
def test_columns_are_the_channels_in_their_order(dim: int, kept: list[int]) -> None:
    tensor = torch.randn(3, 3, 4, 3)
    found = columns(tensor, dim, torch.tensor(kept, dtype=torch.int64))
    assert torch.equal(found, tensor.movedim(dim, -1).reshape(36, 3)[:, kept])


def test_a_vector_is_one_row() -> None:
    assert columns(torch.tensor([1.0, 2.0, 3.0]), 0, torch.tensor([2, 0])).tolist() == [[3.0, 1.0]]


def test_columns_can_be_changed_without_the_tensor() -> None:
    tensor = torch.ones(2, 3)
    columns(tensor, 1, torch.arange(3)).zero_()
    assert tensor.sum() == 6


@pytest.mark.parametrize("width", [0, 1, 100, 3000])
@pytest.mark.parametrize("count", [0, 1, 511, 1500])
def test_blocks_are_all_rows_in_their_order(count: int, width: int) -> None:
    tensor, beside = torch.randn(count, width), torch.randn(count)
    blocks = list(in_blocks(tensor, beside))
    assert all(part.dtype == torch.float64 for block in blocks for part in block)
    assert torch.equal(torch.cat([block[0] for block in blocks]), tensor.double())
    assert torch.equal(torch.cat([block[1] for block in blocks]), beside.double())
