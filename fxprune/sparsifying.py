"""Unstructured pruning: a thin layer over `torch.nn.utils.prune`, on a copy of the model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import prune

from fxprune.errors import InputError, shown
from fxprune.model_checks import check_model
from fxprune.module_trees import clone_tree
from fxprune.planning.matching import checked_patterns, is_meant
from fxprune.planning.strategies import checked_integer
from fxprune.suggestions import nearest

M = TypeVar("M", bound=nn.Module)
Scope: TypeAlias = Literal["global", "layer"]
_METHODS = {"l1": prune.L1Unstructured, "random": prune.RandomUnstructured}
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class SparsityReport:
    """How many numbers of the weights of convolutions and linear layers are zero.

    Attributes:
        layers: name of the layer -> zeros, and numbers in all, of its weight as it is used.
    """

    layers: dict[str, tuple[int, int]]

    @property
    def zeros(self) -> int:
        """How many are zero."""
        return sum(zeros for zeros, _ in self.layers.values())

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(total for _, total in self.layers.values())

    @property
    def sparsity(self) -> float:
        """The share of zeros, from 0 to 1."""
        return self.zeros / self.total if self.total else 0.0

    def __str__(self) -> str:
        width = max(map(len, self.layers), default=0)
        rows = [
            f"  {name:<{width}}  {zeros / total:6.1%}  {zeros:,} of {total:,}"
            for name, (zeros, total) in self.layers.items()
        ]
        head = f"sparsity {self.sparsity:.1%}: {self.zeros:,} of {self.total:,} weights are zero"
        return "\n".join([head, *rows])


def sparsity(model: nn.Module) -> SparsityReport:
    """Count the zeros in the weights of a model's convolutions and linear layers.

    Masks of `torch.nn.utils.prune` count, in place or permanent.

    Args:
        model: any module.

    Raises:
        InputError: this is no module.
    """
    check_model(model)
    with torch.no_grad():
        weights = {name: _weight(layer) for name, layer in _layers(model).items()}
    return SparsityReport(
        {name: (int((weight == 0).sum()), weight.numel()) for name, weight in weights.items()}
    )


def sparsify(
    model: M,
    amount: float,
    scope: Scope = "global",
    *,
    method: Literal["l1", "random"] = "l1",
    ignore: Sequence[str] = (),
    seed: int = 0,
) -> M:
    """Zero single weights of convolutions and linear layers, in a copy of a model.

    The copy has the masks of `torch.nn.utils.prune` in place (`weight_orig`, `weight_mask`), so
    that it can be trained as it is. It can be analyzed and shrunk, too: `Plan.from_masks` finds the
    channels that the masks have made useless. `make_permanent` ends it; `sparsity` reports. Weights
    of `nn.MultiheadAttention` stay: its forward reads them itself, past all masks.

    Args:
        model: the model, which is not changed.
        amount: the fraction of the weights to zero, in [0, 1). Weights that a mask has zeroed
            before do not count: of what is left of them, the fraction goes.
        scope: "global" ranks the weights of all layers together, "layer" takes the same fraction of
            each.
        method: "l1" takes the smallest weights, "random" any.
        ignore: names or patterns of modules to leave as they are; a name means all below it too.
        seed: for "random".

    Raises:
        InputError: an argument is out of range, a name in `ignore` means no module, or a weight is
            shared with another module, which a mask would not reach.
    """
    check_model(model)
    _check(amount, scope, method)
    seed = checked_integer(seed, "seed", 0)
    twin = _twin(model)
    chosen = _chosen(twin, ignore)
    for name, layer in chosen.items():
        if _weight(layer).is_meta:
            raise InputError(f"the weight of {name} has no data", hint="load the weights first")
    if not chosen or not amount:
        return twin
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if scope == "global":
            prune.global_unstructured(
                [(layer, "weight") for layer in chosen.values()], _METHODS[method], amount=amount
            )
        else:
            for layer in chosen.values():
                _METHODS[method].apply(layer, "weight", amount)
    return twin


def make_permanent(model: M) -> M:
    """A copy of a model in which the masks of `torch.nn.utils.prune` are part of the weights.

    It computes the same, its parameters have their plain names again, and it can be exported.

    Args:
        model: the model, which is not changed; also one that `shrink` returned.

    Raises:
        InputError: this is no module.
    """
    check_model(model)
    twin = _twin(model)
    for module in twin.modules():
        names = [
            hook._tensor_name
            for hook in module._forward_pre_hooks.values()
            if isinstance(hook, prune.BasePruningMethod)
        ]
        for name in names:  # written into, which must not reach modules that share it
            original = module._parameters[f"{name}_orig"]
            assert original is not None
            own = nn.Parameter(original.detach().clone(), original.requires_grad)
            module._parameters[f"{name}_orig"] = own
            prune.remove(module, name)
    return twin


def _twin(model: M) -> M:
    """A copy that shares no tensor, and no list of masks that another mask would be added to."""
    twin = clone_tree(model, _copied)
    for module in twin.modules():
        hooks = module._forward_pre_hooks
        for key, hook in hooks.items():
            if isinstance(hook, prune.PruningContainer):
                hooks[key] = copy.copy(hook)
    return twin


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copy, requires_grad=tensor.requires_grad)
    return copy


def _layers(model: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, _LAYERS)}


def _weight(layer: Any) -> torch.Tensor:
    """The weight of a layer as it is used: forward computes it anew where there is a mask."""
    if hasattr(layer, "weight_mask"):
        return torch.as_tensor(layer.weight_orig * layer.weight_mask)
    return torch.as_tensor(layer.weight)


def _check(amount: Any, scope: Any, method: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, Real) or not 0 <= amount < 1:  # type: ignore[operator]  # mypy does not know how Real compares
        raise InputError(
            f"amount is {shown(amount)}",
            why="it is the fraction of weights to zero, in [0, 1)",
            hint="0.5 zeroes half of the weights",
        )
    for name, value, known in (("scope", scope, get_args(Scope)), ("method", method, _METHODS)):
        if value not in tuple(known):
            raise InputError(
                f"{name}={shown(value)} is not known", hint=f"pass {' or '.join(known)}"
            )


def _chosen(model: nn.Module, ignore: Sequence[str]) -> dict[str, Any]:
    """The layers whose weights may be zeroed."""
    ignore = checked_patterns(ignore, "ignore")
    names = [name for name, _ in model.named_modules()]
    for pattern in ignore:
        if not any(is_meant(name, pattern) for name in names):
            raise InputError(f"no module matches {pattern!r}", hint=nearest(pattern, names))
    chosen = {
        name: layer
        for name, layer in _layers(model).items()
        if not isinstance(layer, NonDynamicallyQuantizableLinear)
        and not any(is_meant(name, pattern) for pattern in ignore)
    }
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for name, layer in chosen.items():
        weight = layer._parameters.get("weight_orig", layer._parameters.get("weight"))
        if weight is None:
            raise InputError(
                f"the weight of {name} is no parameter",
                why="it is computed, by a parametrization for one",
                hint=f"pass ignore=[{name!r}]",
            )
        shared = owners[id(weight)]
        if len(shared) > 1:
            raise InputError(
                f"the weight of {name} is one with {next(n for n in shared if name not in n)}",
                why="a mask would reach one of them only",
                hint=f"pass ignore=[{name!r}]",
            )
    return chosen
