"""Vectors with the regular structure of one digit of a mixed-radix number."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.labels.store import Ids


@dataclass(frozen=True)
class Digit:
    """A vector that is tile(repeat(ids, inner), outer) for distinct ids."""

    ids: Ids
    inner: int


def digit_of(vector: Ids) -> Digit | None:
    """The digit that a vector of free ids is, or None if it has no such structure.

    >>> digit_of(np.array([5, 5, 8, 8, 5, 5, 8, 8]))
    Digit(ids=array([5, 8]), inner=2)
    """
    if (vector == 0).any():
        return None
    change = np.flatnonzero(vector != vector[0])
    inner = int(change[0]) if change.size else len(vector)
    if len(vector) % inner:
        return None
    ids = vector[::inner]
    again = np.flatnonzero(ids[1:] == ids[0])
    ids = ids[: again[0] + 1] if again.size else ids
    period = inner * len(ids)
    if len(vector) % period or len(np.unique(ids)) != len(ids):
        return None
    if not np.array_equal(np.tile(np.repeat(ids, inner), len(vector) // period), vector):
        return None
    return Digit(ids.copy(), inner)


def cuts_form_chain(cuts: Sequence[int]) -> bool:
    """Whether ascending cuts divide one another, so that they have a common refinement.

    >>> cuts_form_chain([2, 6, 24]), cuts_form_chain([4, 6, 24])
    (True, False)
    """
    return all(high % low == 0 for low, high in itertools.pairwise(cuts))
