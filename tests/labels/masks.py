"""What labels mean: the mask of removed positions that a set of removed ids leads to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fxprune.labels import Axis, LabelAlgebra

Mask: TypeAlias = NDArray[np.bool_]


def mask(labels: LabelAlgebra, axis: Axis, removed: Mask) -> Mask:
    """The removed positions of an axis; `removed` tells for each id whether it is removed."""
    gone = np.zeros(axis.size, dtype=np.bool_)
    for vector in labels.leaves(axis):
        gone |= removed[vector]
    return gone


def tensor_mask(labels: LabelAlgebra, axes: Sequence[Axis], removed: Mask) -> Mask:
    """The removed entries of a tensor: those with a removed position on any axis."""
    gone = np.zeros([axis.size for axis in axes], dtype=np.bool_)
    for dim, axis in enumerate(axes):
        shape = [1] * len(axes)
        shape[dim] = axis.size
        gone |= mask(labels, axis, removed).reshape(shape)
    return gone


def free_ids(labels: LabelAlgebra, *axes: Axis) -> set[int]:
    """The ids on these axes that can be removed."""
    vectors = [vector for axis in axes for vector in labels.leaves(axis)]
    return {int(i) for vector in vectors for i in vector} - {0}


def random_removals(labels: LabelAlgebra, count: int = 6, seed: int = 0) -> list[Mask]:
    """Random sets of removed ids, from few to nearly all. Id 0 is never among them."""
    random = np.random.default_rng(seed)
    removals = [random.random(len(labels)) < p for p in np.linspace(0.05, 0.95, count)]
    for removed in removals:
        removed[0] = False
    return removals
