"""One axis of a tensor, as the analysis sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray


class Axis:
    """An axis of `size` positions with zero or more label vectors of that length.

    A position is removed if and only if *any* of its ids is removed. Id 0 is never removed and so
    is neutral. An axis without vectors is pinned; `reason` says why. Never change an axis once
    made: `cache` and `whole` are the store's memory of the resolved vectors, without and with
    pinned ids, each valid for one of its versions.
    """

    __slots__ = ("cache", "reason", "size", "vectors", "whole")

    def __init__(
        self, size: int, vectors: tuple[NDArray[int64], ...] = (), reason: Any = None
    ) -> None:
        self.size = size
        self.vectors = vectors
        self.reason = reason
        self.cache: tuple[int, tuple[NDArray[int64], ...]] = (-1, ())
        self.whole: tuple[int, tuple[NDArray[int64], ...]] = (-1, ())

    def __repr__(self) -> str:
        ids = " | ".join(str(vector.tolist()) for vector in self.vectors)
        return f"Axis({self.size}: {ids or 'pinned'})"
