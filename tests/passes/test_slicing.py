"""A tensor is cut along several dims at once or in chunks, and comes out the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fxprune.passes import slicing


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@pytest.mark.parametrize("dims", [(0, 1), (0, 2), (1, 3), (0, 1, 2), (1, 2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_chunks_are_together_what_indexing_selects(
    monkeypatch: pytest.MonkeyPatch, *, channels_last: bool, dims: tuple[int, ...], chunk: int
) -> None:
    """For all dims, chunk sizes and memory formats; the result owns its memory, in that format."""
    monkeypatch.setattr(slicing, "_LARGE", 0)
    monkeypatch.setattr(slicing, "_CHUNK", chunk)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    tensor = torch.randn(6, 5, 4, 3).contiguous(memory_format=memory_format)
    kept = [
        np.array([0, 2, size - 1]) if d in dims else None for d, size in enumerate(tensor.shape)
    ]
    expected = tensor
    for dim, index in enumerate(kept):
        if index is not None:
            expected = expected.transpose(0, dim)[index].transpose(0, dim)
    result = slicing.sliced(tensor, kept)
    assert torch.equal(result, expected)
    assert result.is_contiguous(memory_format=memory_format)
    assert result.untyped_storage().nbytes() == 4 * result.numel()
