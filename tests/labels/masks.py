"""What labels mean for whole tensors, and random sets of removed ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fxprune.labels import Axis, LabelAlgebra
from fxprune.labels.masks import Mask, mask


def tensor_mask(labels: LabelAlgebra, axes: Sequence[Axis], removed: Mask) -> Mask:
    """The removed entries of a tensor: those with a removed position on any axis."""
    gone = np.zeros([axis.size for axis in axes], dtype=np.bool_)
    for dim, axis in enumerate(axes):
        shape = [1] * len(axes)
        shape[dim] = axis.size
        gone |= mask(labels, axis, removed).reshape(shape)
    return gone


def random_removals(labels: LabelAlgebra, count: int = 6, seed: int = 0) -> list[Mask]:
    """Random sets of removed ids, from few to nearly all. Id 0 is never among them."""
    random = np.random.default_rng(seed)
    removals = [random.random(len(labels)) < p for p in np.linspace(0.05, 0.95, count)]
    for removed in removals:
        removed[0] = False
    return removals
