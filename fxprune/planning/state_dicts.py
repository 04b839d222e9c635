"""State dicts of the original, pruned by the slices of a plan: no model is involved."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.errors import PlanError, first_of
from fxprune.module_trees import as_parameter
from fxprune.values import memory

if TYPE_CHECKING:
    from fxprune.planning.plan_data import Plan


def sliced_state(plan: Plan, state: Mapping[str, Any]) -> dict[str, Any]:
    """See `Plan.apply_to_state_dict`."""
    kept = {
        name: {dim: _kept(plan, name, dim, gone) for dim, gone in dims.items()}
        for name, dims in plan.slices.items()
    }
    _check(plan, state)
    tied = {_place(state[name]): name for name in reversed(list(kept)) if name in state}
    result: OrderedDict[str, Any] = OrderedDict()
    made: dict[Any, torch.Tensor] = {}
    for name, value in state.items():
        if any(str(name).startswith(f"{block}.") for block in plan.dropped):
            continue
        known = name  # an exported graph has one name of what is tied
        if name not in kept and name not in plan.shapes and isinstance(value, torch.Tensor):
            known = tied.get(_place(value), name)
        if known not in kept:
            result[name] = value
            continue
        key = (_place(value), str(plan.slices[known]))
        if key not in made:
            made[key] = _taken(value, kept[known])
        result[name] = made[key]
    if hasattr(state, "_metadata"):  # versions of modules, for load_state_dict
        vars(result)["_metadata"] = state._metadata
    return result


def _place(value: torch.Tensor) -> tuple[Any, ...]:
    """What tells tensors that are tied."""
    layout = (value.storage_offset(), value.shape, value.stride(), value.dtype)
    return memory(value), *layout


def _kept(plan: Plan, name: str, dim: int, gone: tuple[int, ...]) -> torch.Tensor:
    """The positions that stay along a dim."""
    shape = plan.shapes.get(name, ())
    if dim >= len(shape) or not all(0 <= position < shape[dim] for position in gone):
        raise PlanError(
            f"the plan's slices of {name} are out of range",
            why=f"it has shape {list(shape)}, by the plan too",
            hint="make the plan again with fxprune.plan",
        )
    kept = np.setdiff1d(np.arange(shape[dim]), gone)
    if not len(kept):
        raise PlanError(
            f"the plan leaves nothing of {name}, dim {dim}: its branch goes",
            why="constants take the place of a branch, and slices alone do not tell them",
            hint="load the state dict into the original and shrink that",
        )
    return torch.from_numpy(kept)


def _check(plan: Plan, state: Mapping[str, Any]) -> None:
    """Refuse a state dict of another model."""
    if not isinstance(state, Mapping):
        raise PlanError(
            f"the state dict is a {type(state).__name__}", hint="pass model.state_dict()"
        )
    needed = plan.slices if any(name in state for name in plan.shapes) else plan.shapes
    differences = [f"{name}: not in the state dict" for name in needed if name not in state]
    for name, shape in plan.shapes.items():
        value = state.get(name)
        if name in state and not isinstance(value, torch.Tensor):
            differences.append(f"{name}: a {type(value).__name__}, and no tensor")
        elif value is not None and tuple(value.shape) != shape:
            differences.append(f"{name}: shape {list(value.shape)} here, {list(shape)} in the plan")
    if differences:
        raise PlanError(
            "the plan belongs to another model than the state dict",
            why=first_of(differences),
            hint="pass the whole state dict of the original. Buffers that are not persistent are"
            " not in it: {**model.state_dict(), **dict(model.named_buffers())} has them",
        )


def _taken(value: torch.Tensor, kept: Mapping[int, torch.Tensor]) -> torch.Tensor:
    result = value.detach()
    for dim, positions in kept.items():
        result = result.index_select(dim, positions.to(value.device))
    return as_parameter(result, value)
