"""A tensor without some positions, part by part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from fxprune.values import taken

if TYPE_CHECKING:
    from torch import Tensor

_PART = 1 << 20
"""About how many elements are read at once."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types that every operator knows, by the bytes of an element: positions are moved, not values."""


def sliced_parts(tensor: Tensor, gone: Mapping[int, Sequence[int]]) -> Iterator[Tensor]:
    """The kept positions of a tensor in parts, which follow one another along dim 0.

    Args:
        tensor: on the CPU, with one dim at least.
        gone: dim -> removed positions.

    Yields:
        Tensors of elements of the same size, of another type perhaps.
    """
    bits = _BITS.get(tensor.element_size())
    values = tensor if bits is None else tensor.view(bits)
    kept = {dim: _kept(tensor.shape[dim], positions) for dim, positions in gone.items()}
    rows = kept.pop(0, torch.arange(tensor.shape[0]))
    step = max(1, _PART // max(1, math.prod(tensor.shape[1:])))
    dims = sorted(kept, key=lambda dim: len(kept[dim]) / tensor.shape[dim])
    for some in rows.split(step):
        part = values.index_select(0, some)
        for dim in dims:
            part = taken(part, dim, kept[dim])
        yield part


def _kept(size: int, gone: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.setdiff1d(np.arange(size), gone))
