"""Parameters, bytes and multiply-accumulate operations of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fxprune.inputs import materialize
from fxprune.module_trees import clone_tree, to_meta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


@dataclass(frozen=True)
class Cost:
    """Size and work of a model.

    Attributes:
        parameters: number of parameters (tied ones once).
        bytes: bytes of parameters and buffers.
        macs: multiply-accumulate operations of one forward on the example inputs, counted by
            `torch.utils.flop_counter` (which counts two FLOPs for each).
    """

    parameters: int
    bytes: int
    macs: int


def cost_of(module: nn.Module, macs: int) -> Cost:
    """The cost of a module whose MACs are known."""
    state = [*module.parameters(), *module.buffers()]
    return Cost(
        parameters=sum(p.numel() for p in module.parameters()),
        bytes=sum(t.numel() * t.element_size() for t in state),
        macs=macs,
    )


def count_macs(module: nn.Module, inputs: Sequence[Any]) -> int:
    """MACs of one forward on inputs of the given descriptions, counted on meta tensors."""
    shadow = clone_tree(module, to_meta)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(*materialize(inputs, seed=None))
    return int(counter.get_total_flops()) // 2
