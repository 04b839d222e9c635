"""Scores of different groups, made comparable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.groups import Group
    from fxprune.importance.criterion import Numbers

Normalization: TypeAlias = Literal["none", "mean", "max", "rank"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)


def normalized(scores: Numbers, groups: Sequence[Group], how: Normalization) -> Numbers:
    """Scores divided, group by group, by their mean or maximum, or replaced by ranks in (0, 1]."""
    found = scores.copy()
    for group in groups if how != "none" else ():
        own = scores[group.ids]
        if how == "rank":
            found[group.ids] = (np.argsort(np.argsort(own, kind="stable")) + 1) / len(own)
            continue
        unit = own.mean() if how == "mean" else own.max()
        found[group.ids] = own / unit if unit > 0 else own
    return found
