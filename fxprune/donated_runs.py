"""A trial of a module whose weights are still to be taken from donated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from fxprune.module_trees import as_parameter, clone_tree
from fxprune.reference import QuietMode
from fxprune.values import memory

if TYPE_CHECKING:
    from torch._ops import OpOverload

    from fxprune.passes.donation import Donation


class BorrowingMode(QuietMode):
    """Runs operators on what is kept of donated weights, which is sliced for each of them anew.

    So no more than the weights of one operator are there twice.

    Attributes:
        strays: dense tensors that were read although nothing stands for them: they are kept where
            a copy of modules does not look.
    """

    def __init__(self, donation: Donation) -> None:
        super().__init__()
        self.strays: list[torch.Tensor] = []
        self._donation = donation
        self._parts: dict[int, torch.Tensor] = {}
        self._shown: list[torch.Tensor] = []

    def twin(self, small: nn.Module) -> nn.Module:
        """A copy of a module to be run under this mode, with buffers of its own."""
        return clone_tree(small, self._show)

    def _show(self, tensor: torch.Tensor) -> torch.Tensor:
        """A parameter of the right shape, type and device, of one number for all positions."""
        if not isinstance(tensor, nn.Parameter):
            borrowed = self._donation.borrowed(tensor)
            return tensor.clone() if borrowed is None else borrowed
        dense = self._donation.dense(tensor)
        if dense is None or dense.is_meta:
            return tensor
        number = torch.zeros((), dtype=dense.dtype, device=dense.device)
        shown = as_parameter(number.expand(tensor.shape), tensor)
        self._parts[memory(shown)] = tensor
        self._shown.append(shown)
        return shown

    def run_operator(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Run an operator without chance, on what its operands stand for."""
        args, kwargs = pytree.tree_map(self._borrowed, (args, kwargs))
        return super().run_operator(func, args, kwargs)

    def _borrowed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        part = self._parts.get(memory(value))
        if part is not None:
            return self._donation.borrowed(part)
        if memory(value) in self._donation.memories and not value.is_meta:
            self.strays.append(self._donation.memories[memory(value)])
        return value
