"""Donated weights: dense tensors give their memory up one by one, as the result takes its part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fxprune.errors import RewriteError
from fxprune.module_trees import as_parameter, named_tensors, replace_tensors, to_meta
from fxprune.passes.slicing import sliced
from fxprune.values import memory

Kept: TypeAlias = Sequence[NDArray[np.int64] | None]
"""The positions that stay along each dim of a tensor; None for all."""


class Donation:
    """The parameters and buffers of a model that is used up, but for integers.

    While passes run, tensors without data stand for what is kept. `fill` then takes the dense
    tensors one after another, so that at no time more than one is there twice.

    Args:
        models: what is used up: a model, and other modules that hold tensors of it, if any.
    """

    def __init__(self, *models: nn.Module) -> None:
        state = {id(tensor): tensor for model in models for tensor in named_tensors(model).values()}
        self._dense = {
            key: tensor
            for key, tensor in state.items()
            if tensor.is_floating_point() or tensor.is_complex() or tensor.is_meta
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

    def borrowed(self, part: torch.Tensor) -> torch.Tensor | None:
        """What is kept of the dense tensor that one stands for, for a while; None if for none."""
        return sliced(*self._parts[id(part)]) if id(part) in self._parts else None

    def dense(self, part: torch.Tensor) -> torch.Tensor | None:
        """The dense tensor that one stands for; None if for none."""
        return self._parts[id(part)][0] if id(part) in self._parts else None

    @cached_property
    def memories(self) -> dict[int, torch.Tensor]:
        """The dense tensors by their memory."""
        return {memory(tensor): tensor for tensor in self._dense.values()}

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
        replace_tensors(small, self._taken)
        for dense in self._dense.values():
            _give_up(dense)

    def _taken(self, tensor: torch.Tensor) -> torch.Tensor:
        """What is kept of the dense tensor that one stands for; any other tensor as it is."""
        if id(tensor) not in self._parts:
            return tensor
        dense, kept = self._parts[id(tensor)]
        if all(positions is None for positions in kept) and self._is_alone(dense):
            part = as_parameter(dense.detach(), dense)
        else:
            part = sliced(dense, kept)
        _give_up(dense)
        return part

    def _is_alone(self, dense: torch.Tensor) -> bool:
        """Whether a tensor can be handed on: its memory is all its own, and can be trained."""
        own = dense.untyped_storage().nbytes() == dense.numel() * dense.element_size()
        return own and self._owners[memory(dense)] == 1 and not dense.is_inference()


def _give_up(dense: torch.Tensor) -> None:
    if isinstance(dense, nn.Parameter):
        dense.grad = None
    dense.data = dense.data.new_empty(0)
