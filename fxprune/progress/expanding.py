"""The original with the weights of a smaller model where that has any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from fxprune.errors import InputError
from fxprune.module_trees import as_parameter, clone_tree, named_tensors
from fxprune.values import mapped, tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fxprune.progress.optimizers import Kept

M = TypeVar("M", bound=nn.Module)


def expanded(original: M, small: nn.Module, kept: Kept) -> M:
    """A copy of an original in which the positions that a smaller model has are that model's.

    Positions that are gone keep the original's values. Every tensor is on the device of the smaller
    model's, and a parameter is trained if that of the smaller model is.

    Args:
        original: the whole model.
        small: what was made of it.
        kept: which positions of the original's tensors it has.

    Raises:
        InputError: a tensor of the smaller model has another shape or type than it should have, is
            no longer tied as in the original, or a parameter is not the original's.
    """
    current = named_tensors(small)
    theirs = named_tensors(original)
    parameters = dict(small.named_parameters(remove_duplicate=False))
    by_id: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in current.items():
        if name in theirs:
            _check_like(name, tensor, theirs[name], kept.get(name, {}))
            first, known = by_id.setdefault(id(theirs[name]), (name, tensor))
            if known is not tensor:
                raise InputError(
                    f"{first} and {name} of the model are two tensors, and one in the original",
                    hint="leave the model's tensors as they are between steps",
                )
        elif name in parameters:
            raise InputError(
                f"the model has a parameter {name} of its own, which the original has not",
                hint="leave its modules as they are between steps",
            )
    device = next((tensor.device for tensor in current.values()), None)

    def converted(tensor: Tensor) -> Tensor:
        full = tensor.detach().clone()
        full = full if device is None else full.to(device)
        if id(tensor) not in by_id:
            return as_parameter(full, tensor)
        name, values = by_id[id(tensor)]
        positions = kept.get(name, {})
        index = {dim: torch.from_numpy(p).to(full.device) for dim, p in positions.items()}
        _put(full, values.detach(), sorted(index), index)
        return as_parameter(full, values) if isinstance(tensor, nn.Parameter) else full

    return clone_tree(original, converted)


def put_in_order(small: nn.Module, original: nn.Module) -> None:
    """Let a smaller model list modules, parameters and buffers in the order of the original.

    A graph has them in the order of their use. Optimizers tell parameters by their places, so one
    that is made for the smaller model takes the state of one that was carried over to it.
    """
    for name, source in original.named_modules():
        module = submodule(small, name)
        if module is None:
            continue
        for table in ("_modules", "_parameters", "_buffers"):
            own = vars(module)[table]
            first = [key for key in vars(source)[table] if key in own]
            for key in [*first, *(key for key in own if key not in first)]:
                own[key] = own.pop(key)


def submodule(model: nn.Module, name: str) -> nn.Module | None:
    """The module of that name, if there is one."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _put(full: Tensor, values: Tensor, dims: Sequence[int], index: Mapping[int, Tensor]) -> None:
    """Write values to the positions along some dims, in place."""
    if not dims:
        full.copy_(values)
        return
    first, *rest = dims
    if rest:
        part = full.index_select(first, index[first])
        _put(part, values, rest, index)
        values = part
    full.index_copy_(first, index[first], values)


def _check_like(name: str, tensor: Tensor, original: Tensor, kept: Mapping[int, object]) -> None:
    shape = list(original.shape)
    for dim, positions in kept.items():
        shape[dim] = len(positions)  # type: ignore[arg-type]
    if list(tensor.shape) != shape or tensor.dtype != original.dtype:
        raise InputError(
            f"{name} of the model has shape {list(tensor.shape)} and type {tensor.dtype}",
            why=f"by what is gone of the original it has shape {shape} and type {original.dtype}",
            hint="leave the model's tensors as they are between steps; change types before the"
            " first step, or train with torch.autocast",
        )


def modes_of(model: nn.Module) -> dict[str, bool]:
    """Of each module whether it is in training mode."""
    return {name: module.training for name, module in model.named_modules()}


def put_modes(model: nn.Module, modes: Mapping[str, bool], otherwise: bool | None = None) -> None:
    """Set the modes of modules by name."""
    for name, module in model.named_modules():
        mode = modes.get(name, otherwise)
        if mode is not None:
            module.training = mode


def beside(model: nn.Module, inputs: Any) -> Any:
    """Example inputs on the device of a model."""
    device = next((tensor.device for tensor in named_tensors(model).values()), None)
    if device is None or all(tensor.device == device for tensor in tensors(inputs)):
        return inputs
    return mapped(lambda tensor: tensor.to(device), inputs)
