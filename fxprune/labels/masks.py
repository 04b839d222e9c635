"""What labels mean: the mask of removed positions that a set of removed ids leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fxprune.labels.algebra import LabelAlgebra
    from fxprune.labels.axis import Axis

Mask: TypeAlias = NDArray[np.bool_]


def mask(labels: LabelAlgebra, axis: Axis, removed: Mask) -> Mask:
    """The removed positions of an axis; `removed` tells for each id whether it is removed."""
    gone = np.zeros(axis.size, dtype=np.bool_)
    for vector in labels.leaves(axis):
        gone |= removed[vector]
    return gone


def free_ids(labels: LabelAlgebra, *axes: Axis) -> set[int]:
    """The ids on these axes that can be removed."""
    vectors = [vector for axis in axes for vector in labels.leaves(axis)]
    return {int(i) for vector in vectors for i in vector} - {0}
