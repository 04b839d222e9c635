"""Donated weights: dense tensors give their memory up one by one, as the result takes its part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.errors import RewriteError
from fxprune.module_trees import as_parameter, named_tensors, to_meta
from fxprune.passes.slicing import sliced
from fxprune.values import memory

if TYPE_CHECKING:
    from torch import nn

Kept: TypeAlias = Sequence[NDArray[np.int64] | None]
"""The positions that stay along each dim of a tensor; None for all."""


class Donation:
    """The parameters and floating-point buffers of a model that is used up.

    While passes run, tensors without data stand for what is kept. `fill` then takes the dense
    tensors one after another, so that at no time more than one is there twice.
    """

    def __init__(self, model: nn.Module) -> None:
        state = {id(tensor): tensor for tensor in named_tensors(model).values()}
        self._dense = {
            key: tensor
            for key, tensor in state.items()
            if tensor.is_floating_point() and not tensor.is_meta
        }
        self._owners = Counter(memory(tensor) for tensor in state.values())
        self._parts: dict[int, tuple[torch.Tensor, Kept]] = {}
        self._held: list[torch.Tensor] = []

    def stand_in(self, tensor: torch.Tensor, kept: Kept) -> torch.Tensor:
        """A tensor without data for what is kept of a donated one; of others that itself."""
        if id(tensor) not in self._dense:
            return sliced(tensor, kept)
        part = sliced(to_meta(tensor), kept)
        self._parts[id(part)] = (tensor, kept)
        self._held.append(part)
        return part

    def fill(self, small: nn.Module) -> None:
        """Put the kept values into the result, and give up the dense ones.

        Raises:
            RewriteError: a tensor of the result has no data and stands for none; nothing is lost.
        """
        for name, tensor in named_tensors(small).items():
            if tensor.is_meta and id(tensor) not in self._parts:
                raise RewriteError(
                    f"{name} is made of weights that have no data yet",
                    hint="shrink without donate=True",
                )
        filled: dict[int, torch.Tensor] = {}
        for module in small.modules():
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for table in tables:
                for name, tensor in table.items():
                    key = id(tensor)
                    if key in self._parts:
                        if key not in filled:
                            filled[key] = self._taken(*self._parts[key])
                        table[name] = filled[key]
        for dense in self._dense.values():
            _give_up(dense)

    def _taken(self, dense: torch.Tensor, kept: Kept) -> torch.Tensor:
        is_whole = all(positions is None for positions in kept)
        if is_whole and self._owners[memory(dense)] == 1:
            part = as_parameter(dense.detach(), dense)
        else:
            part = sliced(dense, kept)
        _give_up(dense)
        return part


def _give_up(dense: torch.Tensor) -> None:
    dense.data = dense.data.new_empty(0)
