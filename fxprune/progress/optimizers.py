"""Optimizers go on with the smaller parameters: their state is sliced as the parameters are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from fxprune.errors import InputError, shown
from fxprune.passes.slicing import sliced
from fxprune.planning import Plan

if TYPE_CHECKING:
    from torch import Tensor

Kept: TypeAlias = Mapping[str, Mapping[int, NDArray[np.int64]]]
"""Name of a tensor -> dim -> the positions that stay, where any do not."""
_ORDER = "pass the model that was shrunk, what shrink returned, and the plan, in this order"


def carry_over(optimizer: Optimizer, model: nn.Module, small: nn.Module, plan: Plan) -> None:
    """Let an optimizer of a model go on with what `shrink` made of the model.

    The optimizer is changed in place and stays the same object with the same groups and options, so
    learning-rate schedulers go on with it. Each parameter of the model is replaced by the smaller
    one of the same name, and its state (momentum, moments of Adam ...) is sliced as it was: a
    tensor of the parameter's shape alike, one that has size 1 along some dims along the others, and
    numbers stay. Parameters that are gone leave their group, with their state. Parameters that are
    not the model's stay as they are. The smaller parameters have no gradients yet, and a bias that
    `constants="fold"` has added is in no group.

    Args:
        optimizer: holds parameters of `model`.
        model: the model that was shrunk, not wrapped (for DDP: `ddp.module`).
        small: what `shrink(model, plan)` returned.
        plan: the plan.

    Raises:
        InputError: the optimizer holds no parameter of the model, or a state that cannot be sliced
            (the flat vectors of L-BFGS), or the plan or `small` do not belong to the model. Then
            nothing is changed.
    """
    if not isinstance(plan, Plan):
        raise InputError(f"the plan is a {type(plan).__name__}", hint="pass the Plan itself")
    _check_model(model, plan)
    check_optimizer(optimizer, model)
    kept = kept_positions(plan)
    _check_small(model, small, kept)
    carried(optimizer, moves_between(model, small, {}, kept)).apply()


def kept_positions(plan: Plan) -> dict[str, dict[int, NDArray[np.int64]]]:
    """What stays of each tensor that loses positions, dim by dim."""
    return {
        name: {
            dim: np.setdiff1d(np.arange(plan.shapes[name][dim]), gone) for dim, gone in dims.items()
        }
        for name, dims in plan.slices.items()
    }


@dataclass(frozen=True)
class Move:
    """What becomes of a parameter.

    Attributes:
        name: of the parameter.
        old: the parameter.
        new: the one that takes its place; None if it is gone.
        kept: for each dim the positions that stay; None for all.
    """

    name: str
    old: nn.Parameter
    new: nn.Parameter | None
    kept: tuple[NDArray[np.int64] | None, ...]


def moves_between(old: nn.Module, new: nn.Module, before: Kept, after: Kept) -> list[Move]:
    """What becomes of the parameters of a model, a tied one once.

    Args:
        old: a model that has those positions of the original that are in `before`.
        new: a smaller one, that has those that are in `after`.
        before: what stays of the original's tensors in `old`.
        after: what stays of them in `new`.
    """
    there = dict(new.named_parameters(remove_duplicate=False))
    found: dict[int, Move] = {}
    for name, parameter in old.named_parameters(remove_duplicate=False):
        known = found.get(id(parameter))
        if known is None or known.new is None:
            kept = _relative(parameter, before.get(name, {}), after.get(name, {}))
            found[id(parameter)] = Move(name, parameter, there.get(name), kept)
    return list(found.values())


def _relative(
    parameter: Tensor,
    before: Mapping[int, NDArray[np.int64]],
    after: Mapping[int, NDArray[np.int64]],
) -> tuple[NDArray[np.int64] | None, ...]:
    """What stays of a parameter, by its own positions."""
    return tuple(
        None
        if dim not in after
        else after[dim]
        if dim not in before
        else np.searchsorted(before[dim], after[dim])
        for dim in range(parameter.dim())
    )


@dataclass(frozen=True)
class Change:
    """What an optimizer is to hold, found before it is changed."""

    optimizer: Optimizer
    groups: Sequence[tuple[list[Tensor], list[str] | None]]
    state: Mapping[Any, Any]

    def apply(self) -> None:
        """Change the optimizer."""
        for group, (parameters, names) in zip(
            self.optimizer.param_groups, self.groups, strict=True
        ):
            group["params"][:] = parameters
            if names is not None:
                group["param_names"][:] = names
        self.optimizer.state.clear()
        self.optimizer.state.update(self.state)


def carried(optimizer: Optimizer, moves: Iterable[Move]) -> Change:
    """What an optimizer is to hold after some parameters have moved; nothing is changed yet.

    Raises:
        InputError: it holds a state that cannot be sliced.
    """
    by_id = {id(move.old): move for move in moves}
    groups = [_moved(group, by_id) for group in optimizer.param_groups]
    state: dict[Any, Any] = {}
    for key, value in optimizer.state.items():
        move = by_id.get(id(key))
        if move is None:
            state[key] = value
        elif move.new is not None:
            state[move.new] = _sliced_state(optimizer, move, value)
    return Change(optimizer, groups, state)


def check_optimizer(optimizer: Any, model: nn.Module) -> None:
    """Refuse what is no optimizer of a model, and one that keeps its state in another one inside.

    Raises:
        InputError: it is one of these.
    """
    if not isinstance(optimizer, Optimizer):
        raise InputError(
            f"the optimizer is a {type(optimizer).__name__}", hint="pass a torch.optim.Optimizer"
        )
    kind = type(optimizer).__name__
    for name, value in vars(optimizer).items():
        if isinstance(value, Optimizer):
            raise InputError(
                f"the {kind} has another optimizer inside, as its {name}",
                why="which of its state belongs to which part of the parameters is not known",
                hint=f"pass optimizer.{name}, if it holds whole parameters",
            )
    known = {id(parameter) for parameter in model.parameters()}
    if not any(id(p) in known for group in optimizer.param_groups for p in group["params"]):
        raise InputError(
            f"the {kind} holds no parameter of the model",
            why="it was made for another one, such as the original, or the model before a step",
            hint="make it of the parameters of the model that is pruned: progressive.model, or what"
            " is passed to carry_over",
        )


def _moved(
    group: Mapping[str, Any], by_id: Mapping[int, Move]
) -> tuple[list[Tensor], list[str] | None]:
    """The parameters of a group, and their names if they have any."""
    parameters, places = [], []
    for place, parameter in enumerate(group["params"]):
        move = by_id.get(id(parameter))
        new = parameter if move is None else move.new
        if new is not None:
            parameters.append(new)
            places.append(place)
    names = group.get("param_names")
    return parameters, None if names is None else [names[place] for place in places]


def _sliced_state(optimizer: Optimizer, move: Move, state: Any) -> dict[str, Any]:
    if not isinstance(state, Mapping):
        raise _unsliceable(optimizer, move, "", state)
    return {key: _sliced_value(optimizer, move, key, value) for key, value in state.items()}


def _sliced_value(optimizer: Optimizer, move: Move, key: Any, value: Any) -> Any:
    """What is left of an entry of a parameter's state.

    1. Numbers, texts, None and tensors of one element (`step`) stay.
    2. Of a tensor of the parameter's shape what stays of the parameter stays,
    3. and of one that has size 1 along some dims (factored moments) likewise along the others.
    """
    if value is None or isinstance(value, (Number, str)):
        return value
    if not isinstance(value, torch.Tensor):
        raise _unsliceable(optimizer, move, key, value)
    if value.numel() == 1:
        return value
    shape = move.old.shape
    fits = value.dim() == len(shape) and all(
        size in (1, whole) for size, whole in zip(value.shape, shape, strict=True)
    )
    if not fits or value.layout != torch.strided:
        raise _unsliceable(optimizer, move, key, value)
    kept = [
        positions if size == whole else None
        for positions, size, whole in zip(move.kept, value.shape, shape, strict=True)
    ]
    return value if all(positions is None for positions in kept) else sliced(value, kept)


def _unsliceable(optimizer: Optimizer, move: Move, key: Any, value: Any) -> InputError:
    what = f"state {key!r}" if key else "state"
    return InputError(
        f"the {what} of a {type(optimizer).__name__} cannot be carried over",
        where=f"parameter {move.name} of shape {list(move.old.shape)}",
        why=f"it is {shown(value)}, which does not follow the dims of the parameter",
        hint="make a new optimizer for the smaller model, or take one that keeps a state of its own"
        " for each parameter (SGD, Adam, AdamW, RMSprop, Adafactor, Muon ...)",
    )


def _check_model(model: nn.Module, plan: Plan) -> None:
    """Refuse a plan for another model.

    Raises:
        InputError: no parameter has the name and the shape that the plan tells.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in known.items():
        if name in plan.shapes and tuple(parameter.shape) != plan.shapes[name]:
            raise InputError(
                f"the plan does not belong to the model: parameter {name} has shape"
                f" {list(parameter.shape)}, in the plan {list(plan.shapes[name])}",
                hint=_ORDER,
            )
    if known.keys().isdisjoint(plan.shapes):
        raise InputError(
            "the plan does not belong to the model",
            why="no parameter of the model is in it",
            hint=f"{_ORDER}; of a wrapped model (DDP) pass what it wraps: ddp.module",
        )


def _check_small(model: nn.Module, small: nn.Module, kept: Kept) -> None:
    """Refuse a model that was not made of the other one by the plan."""
    theirs = dict(model.named_parameters(remove_duplicate=False))
    ours = dict(small.named_parameters(remove_duplicate=False))
    if ours and ours.keys().isdisjoint(theirs):
        raise InputError(
            "the smaller model does not belong to the model",
            why="they have no parameter of the same name",
            hint=_ORDER,
        )
    for name, parameter in ours.items():
        if name not in theirs:
            continue
        shape = list(theirs[name].shape)
        for dim, positions in kept.get(name, {}).items():
            shape[dim] = len(positions)
        if list(parameter.shape) != shape:
            raise InputError(
                "the smaller model was not made by this plan: parameter"
                f" {name} has shape {list(parameter.shape)}, by the plan {shape}",
                hint=_ORDER,
            )
