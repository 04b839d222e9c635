"""Products of a value and a weight: linear layers, convolutions, products of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fxprune.reference import is_state
from fxprune.rules.convolution import transposed_channels
from fxprune.weight_uses import PRODUCTS

if TYPE_CHECKING:
    from fxprune.labels import Axis
    from fxprune.rules import Call

aten = torch.ops.aten


@dataclass(frozen=True)
class Product:
    """A product of a value and a weight.

    Attributes:
        x: the operand that is the value.
        weight: the operand that is, or is computed of, parameters alone.
        rows: the dim of the weight that gives the channels of the outcome.
        blocks: how often the outcome repeats that dim: once for each group of a transposed
            convolution, whose groups are on dim 0.
        bias: the operand that is added to every channel, if the operator has one.
        mixes: whether a channel of the outcome is made of several of the value. A depthwise
            convolution passes channels through instead.
    """

    x: str
    weight: str
    rows: int
    blocks: int
    bias: str | None
    mixes: bool

    @classmethod
    def of(cls, call: Call) -> Product | None:
        """The product that an operator makes of a weight, if it does."""
        if call.op not in PRODUCTS:
            return None
        x, weight, rows, bias = PRODUCTS[call.op]
        if not is_state(call.arg(weight)) or is_state(call.arg(x)):
            return None
        mixes, blocks = True, 1
        if call.op is aten.convolution.default:
            groups = call.arg("groups")
            if call.arg("transposed"):
                rows, blocks = 1, groups
            mixes = groups == 1 or call.arg(x).shape[1] > groups
        return cls(x, weight, rows, blocks, bias, mixes)

    def channels(self, call: Call) -> Axis:
        """The channels of the outcome."""
        axes = call.axes(self.weight)
        if self.blocks == 1:
            return axes[self.rows]
        return transposed_channels(call.labels, axes, self.blocks)

    def zero(self, weight: torch.Tensor, gone: torch.Tensor) -> None:
        """Zero what makes the channels of the outcome that a mask names."""
        by_row = weight.movedim(self.rows, 0)
        if self.blocks > 1:
            by_row = weight.unflatten(0, (self.blocks, -1)).transpose(1, 2)
            gone = gone.reshape(self.blocks, -1)
        by_row[gone] = 0
