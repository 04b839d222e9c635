"""From removed ids to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fxprune.planning.layout import Layout
from fxprune.planning.plan_data import GroupPlan, Plan

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Ids


def make_plan(deps: DependencyGraph, removed: Ids, made: Mapping[str, Any]) -> Plan:
    """The plan that removes the given ids.

    Raises:
        PlanError: nothing would be left of some axis, and it cannot go.
    """
    groups = {}
    is_removed = np.zeros(len(deps.trace.labels), dtype=np.bool_)
    is_removed[removed] = True
    for group in deps.groups:
        if group.pinned is not None:
            continue
        gone = tuple(np.flatnonzero(is_removed[group.ids]).tolist())
        groups[group.name] = GroupPlan(group.size, group.kind, gone)
    return Plan(
        groups=groups,
        slices=Layout(deps, removed).slices,
        shapes=deps.shapes,
        inputs=deps.inputs,
        digest=deps.digest,
        made=made,
        dropped=deps.dropped,
    )
