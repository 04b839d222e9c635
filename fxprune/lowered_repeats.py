"""What was lowered before, told in the channels of another node that computes the same.

Repeated blocks differ in their channels only. A pattern tells which positions along the axes that a
node reads and returns carry the same channel, and which are pinned; nodes of the same computation
and the same pattern are lowered to the same graph, with one's channels in the place of the other's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils import _pytree as pytree

from fxprune.labels import Axis
from fxprune.traces import TracedTensor

if TYPE_CHECKING:
    from fxprune.labels import Ids, LabelAlgebra


@dataclass(frozen=True)
class Channels:
    """The channels along some axes, numbered in the order in which they appear; 0 is none.

    Attributes:
        pattern: all that counts of them but which they are.
        ids: the root id of each number; the first is 0.
    """

    pattern: Hashable
    ids: Ids

    @classmethod
    def of(cls, tensors: Iterable[TracedTensor], labels: LabelAlgebra) -> Channels:
        """The channels along all axes of tensors."""
        shapes: list[Hashable] = []
        vectors: list[Ids] = [np.zeros(1, dtype=np.int64)]
        for tensor in tensors:
            value = tensor.value
            known = None if value is None else (str(value.dtype), value.numpy().tobytes())
            found = [labels.roots(axis) for axis in tensor.axes]
            shapes.append((tensor.shape, known, tuple(map(len, found))))
            vectors += [vector for axis in found for vector in axis]
        ids, first, numbers = np.unique(
            np.concatenate(vectors), return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        ids = ids[order]
        pins = labels.pins(ids) != 0
        return cls((tuple(shapes), rank[numbers].tobytes(), pins.tobytes()), ids)

    def in_terms_of(self, other: Channels) -> Callable[[Axis], Axis]:
        """From an axis with these channels to one with those of another node of the same pattern.

        The function raises UnknownChannelError for any other axis.
        """
        order = np.argsort(self.ids)
        known = self.ids[order]

        def translated(axis: Axis) -> Axis:
            vectors = []
            for vector in axis.vectors:
                place = np.minimum(np.searchsorted(known, vector), len(known) - 1)
                if not np.array_equal(known[place], vector):
                    raise UnknownChannelError
                vectors.append(other.ids[order[place]])
            return Axis(axis.size, tuple(vectors), axis.reason)

        return translated


class UnknownChannelError(Exception):
    """An axis has a channel that is not among those of the pattern."""


def translated(value: Any, axis: Callable[[Axis], Axis]) -> Any:
    """A nested value with other axes.

    Raises:
        UnknownChannelError: it has a channel that is not known.
    """

    def leaf(part: Any) -> Any:
        if not isinstance(part, TracedTensor):
            return part
        return TracedTensor(part.shape, tuple(map(axis, part.axes)), part.value, part.dtype)

    return pytree.tree_map(leaf, value)
