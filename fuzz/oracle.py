"""The oracle: what a pruned model must return, from the original and `plan.slices` alone.

It runs the original's own forward on tensors that know what is gone of them (`fuzz.masked`), in
float64. It reads no labels, no rules, no graph and nothing that the rewriter or the verifier made.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fuzz.meanings  # noqa: F401 (registers what functions mean)
from fuzz.masked import ContradictionError, Masked
from fuzz.twins import TWINS

Slices = Mapping[str, Mapping[int, Sequence[int]]]
TOLERANCE = 1e-9


class Oracle:
    """Knows the outputs of a pruned model.

    Args:
        model: the original, in float64.
        slices: for each parameter and buffer the removed positions of its dims.
    """

    def __init__(self, model: nn.Module, slices: Slices) -> None:
        self._model = masked_model(model, slices)

    def outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What the pruned model must return, leaf by leaf.

        Raises:
            ContradictionError: no pruned model can return what the plan wants.
        """
        args = [Masked.whole(x.clone()) for x in inputs]
        with torch.no_grad():
            leaves = pytree.tree_leaves(self._model(*args))
        for leaf in leaves:
            if isinstance(leaf, Masked) and leaf.gone.any():
                raise ContradictionError("a part of an output is gone")
        return [leaf.data if isinstance(leaf, Masked) else leaf for leaf in leaves]


def masked_model(model: nn.Module, slices: Slices) -> nn.Module:
    """A copy of a model with masked parameters and buffers."""
    twin = copy.deepcopy(model).eval()
    gone: dict[int, Tensor] = {}
    for name, tensor in _state(twin):
        mask = gone.setdefault(id(tensor), torch.zeros_like(tensor, dtype=torch.bool))
        for dim, positions in slices.get(name, {}).items():
            mask.index_fill_(dim, torch.tensor(positions, dtype=torch.long), True)
    made: dict[int, Masked] = {}
    for module in twin.modules():
        for tensors in (module._parameters, module._buffers):
            slots: dict[str, Any] = tensors  # they are masked from here on
            for name, tensor in slots.items():
                if tensor is not None:
                    made.setdefault(id(tensor), _poisoned(tensor.detach(), gone[id(tensor)]))
                    slots[name] = made[id(tensor)]
    return _with_twins(twin)


def _state(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]


def _poisoned(tensor: Tensor, gone: Tensor) -> Masked:
    data = tensor.masked_fill(gone, torch.nan) if tensor.is_floating_point() else tensor
    return Masked(data, gone)


def _with_twins(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _with_twins(child))
    twin = TWINS.get(type(module))
    return module if twin is None else twin(module)


def difference(
    model: nn.Module, inputs: Sequence[Tensor], expected: Sequence[Tensor]
) -> str | None:
    """What differs, in one line; None if all outputs are equal within `TOLERANCE`."""
    with torch.no_grad():
        got = pytree.tree_leaves(model(*[x.clone() for x in inputs]))
    if len(got) != len(expected):
        return f"{len(got)} outputs instead of {len(expected)}"
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        if not isinstance(a, Tensor):
            if a != b:
                return f"output {number} is {a} instead of {b}"
        elif a.shape != b.shape:
            return f"output {number} has shape {list(a.shape)} instead of {list(b.shape)}"
        else:
            error = (a - b).abs().max() / b.abs().max().clamp_min(1) if b.numel() else 0
            if not error <= TOLERANCE:
                return f"output {number} is off by {float(error):.1e}"
    return None
