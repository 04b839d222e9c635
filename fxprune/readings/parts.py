"""Parts of stored tensors, and what operators yield with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

_BLOCK = 1 << 16
"""How many numbers of a tensor there are in a block."""
_ROWS = 512
"""How many rows there are at least: products of fewer are slow."""


@dataclass(frozen=True)
class Part:
    """A stored tensor, or a view of it.

    Attributes:
        name: of the stored tensor.
        size: of the view.
        stride: of the view, in elements.
        start: its first element.
    """

    name: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """The element after its last one."""
        steps = zip(self.size, self.stride, strict=True)
        return self.start + 1 + sum((size - 1) * stride for size, stride in steps)

    def is_for_each(self, count: int) -> bool:
        """Whether it has one element for each of so many channels."""
        return self.size == (count,) and 0 not in self.stride

    def overlaps(self, other: Part) -> bool:
        """Whether an element between first and last may be in both."""
        return self.name == other.name and self.start < other.stop and other.start < self.stop

    def of(self, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The same view of the tensor of that name in another copy of the model."""
        return state[self.name].detach().as_strided(self.size, self.stride, self.start)


@dataclass
class Outcome:
    """What an operator with stored tensors yields, in one run.

    Attributes:
        part: what of the stored tensors its weight is, or None if it is computed of them.
        name: of the parameter that it is, or is computed of.
        gone: the mask [c] of the weight's channels that are removed.
        why: why it cannot be repaired, or nothing.
        out: what it yields, [n, rows], at the channels that are kept.
        kept_rows: which channels these are.
    """

    part: Part | None
    name: str
    gone: NDArray[np.bool_]
    why: str
    out: torch.Tensor
    kept_rows: torch.Tensor


def in_blocks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The rows of tensors [n, ...] in float64, as many at a time as stay in the cache together.

    To sum over them takes a fifth of the time of sums over all rows at once; on other devices than
    the CPU all rows come at once.
    """
    first = tensors[0]
    width = max(1, first[:1].numel())
    rows = max(_ROWS, _BLOCK // width) if first.device.type == "cpu" else max(1, len(first))
    for block in zip(*(tensor.split(rows) for tensor in tensors), strict=True):
        yield tuple(tensor.double() for tensor in block)


def columns(tensor: torch.Tensor, dim: int, kept: torch.Tensor) -> torch.Tensor:
    """Some channels of a tensor, a column for each: [n, channels].

    They are taken before they are put last, so that only theirs are copied from place to place.

    Args:
        tensor: of any shape.
        dim: what the channels are on.
        kept: which of them.
    """
    some = tensor.index_select(dim, kept.to(tensor.device)).movedim(dim, -1)
    return some.reshape(some.shape[:-1].numel(), some.shape[-1])
