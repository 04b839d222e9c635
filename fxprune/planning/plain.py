"""What `fxprune.plan` chooses when it is told a ratio and nothing else, for any ratio at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fxprune.importance import criterion_of
from fxprune.planning.pooling import pooled
from fxprune.planning.strategies import Strategy

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.planning.selection import Selection

_KINDS = frozenset({"channels", "heads"})


def plain_selection(deps: DependencyGraph, criterion: str = "l2") -> Selection:
    """The selection of which `removed(ratio)` is what `fxprune.plan(deps, ratio=ratio)` removes.

    Channels are scored once, so a further ratio costs next to nothing.

    Args:
        deps: the analysis.
        criterion: the name of a criterion.

    Raises:
        InputError: a weight is not finite, or has no data and the criterion needs it.
    """
    base = Strategy(
        criterion=criterion_of(criterion),
        reduction="sum",
        scope="group",
        round_to=1,
        min_channels=1,
    )
    still = replace(base, ratio=0.0)
    groups = [group for group in deps.groups if group.prunable]
    wanted = {group: base for group in groups if group.kind in _KINDS}
    wanted |= {group: still for group in groups if group not in wanted}
    return pooled(deps, wanted, np.zeros(len(deps.trace.labels), dtype=np.bool_))
