"""Scores of different groups, made comparable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from fxprune.errors import InputError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.groups import Group
    from fxprune.importance.criterion import Numbers

Normalization: TypeAlias = Literal["none", "mean", "max", "rank"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)


def normalized(scores: Numbers, groups: Sequence[Group], how: Normalization) -> Numbers:
    """Scores that compare across groups; the order within a group stays as it is.

    Args:
        scores: a number for each id; NaN for one that nothing speaks of, which stays NaN and does
            not count among the others of its group.
        groups: those whose scores are normalized, each by itself.
        how: "none": not at all. "mean" or "max": divided by the mean or the maximum of the scores
            of the group, without their signs; where all are 0 they stay 0. "rank": the place in
            ascending order by the number of scores, in (0, 1]; equal scores share their mean place.

    Returns:
        A number for each id; those of other groups as they were.

    Raises:
        InputError: `how` is none of these.
    """
    if how not in NORMALIZATIONS:
        raise InputError(
            f"unknown normalization {shown(how)}", hint=f"take one of {', '.join(NORMALIZATIONS)}"
        )
    found = scores.copy()
    for group in groups if how != "none" else ():
        ids = group.ids[~np.isnan(scores[group.ids])]
        found[ids] = _ranks(scores[ids]) if how == "rank" else _divided(scores[ids], how)
    return found


def _divided(scores: Numbers, how: Normalization) -> Numbers:
    """Divided by the maximum first, so that no sum overflows."""
    largest = np.abs(scores).max(initial=0.0)
    if not largest:
        return scores
    shares: Numbers = scores / largest
    return shares / np.abs(shares).mean() if how == "mean" else shares


def _ranks(scores: Numbers) -> Numbers:
    """The mean place of all that are equal, by their number."""
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    places: Numbers = last - (counts - 1) / 2
    return places[which] / max(len(scores), 1)
