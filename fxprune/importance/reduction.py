"""From what positions count to what channels count: one reduction for all criteria."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from fxprune.errors import InputError, shown

if TYPE_CHECKING:
    from fxprune.importance.criterion import Evidence, Numbers
    from fxprune.labels import Ids, LabelAlgebra

Reduction: TypeAlias = Literal["sum", "mean", "max", "first"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def channel_scores(
    evidence: Iterable[Evidence], labels: LabelAlgebra, reduction: Reduction = "sum"
) -> Numbers:
    """What each channel counts, by what the positions that carry it count.

    Args:
        evidence: axis by axis, how much positions count.
        labels: the channels of each position.
        reduction: "sum", "mean" or "max" of all positions that carry a channel; "first": the sum
            over those of the first axis that has any (the weight of the layer that makes the
            channel, in most models).

    Returns:
        A float64 number for each id; NaN where no axis carries it.

    Raises:
        InputError: evidence is not finite, or of another length than its axis; or the reduction is
            unknown.
    """
    if reduction not in REDUCTIONS:
        raise InputError(
            f"unknown reduction {shown(reduction)}", hint=f"take one of {', '.join(REDUCTIONS)}"
        )
    total = np.full(len(labels), -np.inf if reduction == "max" else 0.0)
    count = np.zeros(len(labels), dtype=np.int64)
    for piece in evidence:
        if piece.values.shape != (piece.axis.size,) or not np.isfinite(piece.values).all():
            raise InputError(
                "a criterion returns evidence that is not one finite number for each position",
                why=f"it has shape {piece.values.shape}, for an axis of {piece.axis.size}",
            )
        before = count.copy() if reduction == "first" else count
        for ids, values in _carried(labels.leaves(piece.axis), piece.values):
            if reduction == "max":
                np.maximum.at(total, ids, values)
            elif reduction == "first":
                new = before[ids] == 0
                np.add.at(total, ids[new], values[new])
            else:
                np.add.at(total, ids, values)
            np.add.at(count, ids, 1)
    if reduction == "mean":
        total /= np.maximum(count, 1)
    total[count == 0] = np.nan
    return total


def _carried(vectors: Sequence[Ids], values: Numbers) -> Iterator[tuple[Ids, Numbers]]:
    """Channels, and what positions that carry them count: each once, whatever carries it twice.

    In the outer product of channels with themselves, position (i, i) carries channel i twice.
    """
    for number, ids in enumerate(vectors):
        again = [ids == earlier for earlier in vectors[:number]]
        once = ~np.logical_or.reduce(again) if again else slice(None)
        yield ids[once], values[once]
