"""What is left of a tensor: a copy of the positions that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.module_trees import as_parameter

_LARGE = 1 << 20
"""Elements of a tensor from which on it is sliced along several dims in chunks."""
_CHUNK = 1 << 16
"""How many elements of it are copied at a time."""


def sliced(tensor: torch.Tensor, kept: Sequence[NDArray[np.int64] | None]) -> torch.Tensor:
    """A copy of the positions that stay along each dim; None for all."""
    positions = {
        dim: torch.from_numpy(np.ascontiguousarray(index)).to(tensor.device)
        for dim, index in enumerate(kept)
        if index is not None
    }
    detached = tensor.detach()
    if len(positions) > 1 and tensor.numel() > _LARGE:
        result = _by_chunks(detached, positions)
    else:
        result = _selected(detached, positions) if positions else detached.clone()
    return as_parameter(_formatted(result, tensor), tensor)


def _selected(tensor: torch.Tensor, positions: Mapping[int, torch.Tensor]) -> torch.Tensor:
    for dim, index in positions.items():
        tensor = tensor.index_select(dim, index)
    return tensor


def _by_chunks(tensor: torch.Tensor, positions: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """The same, in chunks, so that what is left along a first dim alone never exists as a whole."""
    first, index = next(iter(positions.items()))
    *between, (last, others) = [(dim, kept) for dim, kept in positions.items() if dim != first]
    shape = [len(positions[d]) if d in positions else size for d, size in enumerate(tensor.shape)]
    result = tensor.new_empty(shape)
    step = max(1, _CHUNK * tensor.shape[first] // tensor.numel())
    for start in range(0, len(index), step):
        chunk = index[start : start + step]
        part = _selected(tensor.index_select(first, chunk), dict(between))
        torch.index_select(part, last, others, out=result.narrow(first, start, len(chunk)))
    return result


def _formatted(result: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A sliced tensor in the memory format of the original."""
    for rank, memory_format in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if like.dim() != rank or like.is_contiguous():
            continue
        if like.is_contiguous(memory_format=memory_format):
            return result.contiguous(memory_format=memory_format)
    return result
