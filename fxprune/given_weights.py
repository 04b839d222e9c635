"""Weights that are not in the model: the values that `plan` reads from a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from fxprune.analysis import DependencyGraph
from fxprune.errors import InputError, first_of
from fxprune.known_values import LARGEST_KNOWN
from fxprune.module_trees import as_parameter, clone_tree, named_tensors
from fxprune.passes.base import fork
from fxprune.shards import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from fxprune.analysis import Model


def weights_given(weights: Any) -> Mapping[str, Tensor]:
    """What a user passes for weights, by name.

    Raises:
        InputError: it is neither a dict of tensors nor the path of a checkpoint, or that is broken.
    """
    if isinstance(weights, (str, os.PathLike)):
        return Checkpoint.open(weights)
    if isinstance(weights, Mapping):
        return weights
    raise InputError(
        f"weights is a {type(weights).__name__}",
        hint="pass the folder of a checkpoint of safetensors, or a state dict",
    )


def with_integers(model: Model, weights: Mapping[str, Tensor]) -> Model:
    """A model without data in which integers have the values of a checkpoint.

    Positions that are looked up by such integers move channels, so the analysis needs them. All
    other tensors are shared; an analysis, or a model that has its integers, is returned as it is.
    """
    if not isinstance(model, nn.Module):
        return model
    found = {
        id(tensor): as_parameter(weights[name].clone(), tensor)
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name in weights and _is_wanted(tensor) and tensor.shape == weights[name].shape
    }
    if not found:
        return model

    def converted(tensor: Tensor) -> Tensor:
        return found.get(id(tensor), tensor)

    if isinstance(model, fx.GraphModule):
        return fork(model, converted)
    return clone_tree(model, converted)


def _is_wanted(tensor: Any) -> bool:
    is_empty = isinstance(tensor, torch.Tensor) and tensor.is_meta
    return is_empty and not _is_real(tensor) and tensor.numel() <= LARGEST_KNOWN


def weighed(deps: DependencyGraph, weights: Mapping[str, Tensor]) -> DependencyGraph:
    """An analysis whose weights are these.

    Raises:
        InputError: a parameter is not there, or has another shape or other kinds of numbers.
    """
    return replace(deps, weights=_Named.of(deps, weights))


@dataclass(frozen=True, eq=False)
class _Named(Mapping[str, "Tensor"]):
    """Weights by the names that a graph has, of which a checkpoint need have but one."""

    weights: Mapping[str, Tensor]
    names: Mapping[str, str]

    @classmethod
    def of(cls, deps: DependencyGraph, weights: Mapping[str, Tensor]) -> _Named:
        """The weights of a graph."""
        tied: dict[int, list[str]] = {}  # an exported graph has one of the model's names
        for name, tensor in {**named_tensors(deps.model), **deps.state}.items():
            tied.setdefault(id(tensor), []).append(name)
        known = {
            name: next((n for n in [name, *tied[id(own)]] if n in weights), None)
            for name, own in deps.state.items()
        }
        parameters = dict(deps.graph_module.named_parameters(remove_duplicate=False))
        names = {name: other for name, other in known.items() if other is not None}
        wrong = [f"{name} is not there" for name in parameters if name not in names]
        for name, other in names.items():
            own, tensor = deps.state[name], weights[other]
            if tensor.shape != own.shape:
                wrong.append(f"{other} has shape {list(tensor.shape)}, not {list(own.shape)}")
            elif _is_real(tensor) != _is_real(own):
                wrong.append(f"{other} is {tensor.dtype}, not {own.dtype}")
        if wrong:
            raise InputError(
                "the weights are those of another model",
                why=first_of(wrong),
                hint="pass the checkpoint, or the state dict, of the model that is pruned",
            )
        return cls(weights, names)

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[self.names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _is_real(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
