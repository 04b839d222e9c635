"""The removal of a plan on another graph of its model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from fxprune.errors import PlanError, shown
from fxprune.planning.choice import make_plan

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.planning.plan_data import Plan

Slices = dict[str, dict[int, tuple[int, ...]]]
_OF_A_TRACE = re.compile(r"(.*\.)?(_tensor_constant|lifted_tensor_)\d+")
"""Constants that forward makes: tracers keep them under names of their own."""


def state_slices(plan: Plan) -> Slices:
    """The slices of tensors that the model itself has, which all its graphs know."""
    slices = plan.slices.items()
    return {name: dict(dims) for name, dims in slices if not _OF_A_TRACE.fullmatch(name)}


def transferred(plan: Plan, deps: DependencyGraph) -> Plan:
    """The plan that removes the same positions of the same tensors in another graph.

    A model has many graphs: of modules, of torch's functions, of ATen operators, and what passes
    made of them. They name groups otherwise, but know parameters and buffers by the same names, so
    what is transferred is `plan.slices`. A channel goes if all its positions are to go; then just
    these positions must be gone.

    Args:
        plan: a plan for the model.
        deps: the analysis of the graph.

    Raises:
        PlanError: the plan drops blocks; a tensor is missing, of another shape or in another graph
            coupled otherwise; or a channel must stay in this graph. Tells which, and why.
    """
    if plan.digest == deps.digest:
        return plan
    if plan.dropped:
        raise PlanError(
            f"the plan drops {', '.join(plan.dropped)}, which a graph cannot do",
            why="a graph does not tell where its blocks begin and end",
            hint="pass the model itself to fxprune.shrink",
        )
    wanted = state_slices(plan)
    _check_shapes(plan, deps, wanted)
    free = [group for group in deps.groups if group.pinned is None]
    gone = [group.ids[_channels(group, wanted, plan)] for group in free]
    removed = np.concatenate([*gone, np.zeros(0, dtype=np.int64)])
    made = make_plan(deps, removed, plan.made)
    found = {name: dims for name, dims in state_slices(made).items() if _knows(plan, name)}
    if found != wanted:
        raise _contradiction(deps, wanted, found)
    return made


def _check_shapes(plan: Plan, deps: DependencyGraph, wanted: Slices) -> None:
    missing = [name for name in wanted if name not in deps.shapes]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise PlanError(
            f"the graph has no {', '.join(missing[:3])}{more}, of which the plan removes positions",
            hint="pass the whole model that the plan was made for",
        )
    for name, shape in deps.shapes.items():
        if _knows(plan, name) and tuple(plan.shapes[name]) != shape:
            raise PlanError(
                "the plan belongs to another model",
                why=f"{name} has shape {list(shape)}, in the plan {list(plan.shapes[name])}",
                hint="make a plan for this model",
            )


def _knows(plan: Plan, name: str) -> bool:
    return name in plan.shapes and not _OF_A_TRACE.fullmatch(name)


def _channels(group: Group, wanted: Slices, plan: Plan) -> list[int]:
    """The channels of a group of which all positions are to go, as far as the plan knows them."""
    known = [m for m in group.members if _knows(plan, m.parameter)]
    going = set(range(group.size if known else 0))
    for member in known:
        gone = set(wanted.get(member.parameter, {}).get(member.dim, ()))
        positions = member.positions
        going = {c for c in going if c < len(positions) and gone.issuperset(positions[c])}
    return sorted(going)


def _contradiction(deps: DependencyGraph, wanted: Slices, found: Slices) -> PlanError:
    """The error for the first axis that cannot lose what it is to lose."""
    name = next(n for n in {**wanted, **found} if wanted.get(n) != found.get(n))
    left, right = wanted.get(name, {}), found.get(name, {})
    dim = next(d for d in {**left, **right} if left.get(d) != right.get(d))
    reasons = dict.fromkeys(
        str(group.pinned)
        for group in deps.groups
        if group.pinned is not None
        and any((m.parameter, m.dim) == (name, dim) for m in group.members)
    )
    return PlanError(
        f"the plan removes {shown(list(left.get(dim, ())))} of {name}, dim {dim}, which in this"
        " graph cannot go alone",
        why="; ".join(list(reasons)[:2]) or "channels are coupled otherwise than in the plan",
        hint="make a plan for this graph",
    )
