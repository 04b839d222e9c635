"""How the outcome of an operator on sliced operands differs from the sliced outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from fxprune.testing.trial import AxisPositions, take

if TYPE_CHECKING:
    from fxprune.labels import Axis
    from fxprune.testing.samples import Positions

TOLERANCE = 1e-10


def shapes_differ(
    full: Sequence[torch.Tensor], got: Sequence[torch.Tensor], kept: AxisPositions
) -> str:
    """The first output of another shape than the labels predict, in words, or ""."""
    if len(full) != len(got):
        return f"{len(got)} outputs instead of {len(full)}"
    for number, (left, right, positions) in enumerate(zip(full, got, kept, strict=True)):
        expected = tuple(map(len, positions))
        if left.dim() != len(positions) or tuple(right.shape) != expected:
            return f"output {number} has the shape {tuple(right.shape)} instead of {expected}"
    return ""


def values_differ(
    full: Sequence[torch.Tensor], got: Sequence[torch.Tensor], kept: AxisPositions
) -> str:
    """The first output with other numbers, and at which positions, in words, or ""."""
    for number, (tensor, right, positions) in enumerate(zip(full, got, kept, strict=True)):
        left = take(tensor, positions)
        if left.is_floating_point():
            same = torch.isclose(left, right, rtol=0, atol=TOLERANCE, equal_nan=True)
        else:
            same = left == right
        if not bool(same.all()):
            return f"output {number} {_where(left, right, ~same, positions)}"
    return ""


def _where(
    left: torch.Tensor, right: torch.Tensor, wrong: torch.Tensor, kept: Sequence[Positions]
) -> str:
    """Which positions are wrong, and the numbers at the first of them."""
    places = wrong.nonzero()
    first = tuple(places[0].tolist())
    before = tuple(int(positions[p]) for positions, p in zip(kept, first, strict=True))
    by_dim = [
        f"dim {dim} positions {_list(positions[np.unique(places[:, dim].numpy())])}"
        for dim, positions in enumerate(kept)
    ]
    return (
        f"differs at {len(places)} of {left.numel()} kept places, {'; '.join(by_dim) or 'all'}:"
        f" at {before} it is {right[first].item():.6g} instead of {left[first].item():.6g}"
    )


def removed_in_words(
    names: Sequence[str], axes: Sequence[Sequence[Axis]], kept: AxisPositions
) -> str:
    """The removed positions of every tensor that loses some."""
    parts = []
    for name, dims, positions in zip(names, axes, kept, strict=True):
        for dim, (axis, stay) in enumerate(zip(dims, positions, strict=True)):
            gone = np.setdiff1d(np.arange(axis.size), stay)
            if gone.size:
                parts.append(f"{name} dim {dim} positions {_list(gone)}")
    return "; ".join(parts) or "nothing"


def _list(positions: Positions) -> str:
    return ", ".join(map(str, positions.tolist()))
