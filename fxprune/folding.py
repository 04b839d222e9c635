"""The reference for `constants="fold"`: removed channels have no inputs, and emit what they do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.reference import StateMode, is_state
from fxprune.rules import Call, put_axes
from fxprune.rules.convolution import transposed_channels
from fxprune.traces import STATE_NAME
from fxprune.weight_uses import PRODUCTS

if TYPE_CHECKING:
    from fxprune.labels import Axis, LabelAlgebra
    from fxprune.meaning import Norm
    from fxprune.precision import Widening
    from fxprune.reference import Removed
    from fxprune.rules import Rule

Rows: TypeAlias = dict[str, NDArray[np.bool_]]

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


class FoldedMode(StateMode):
    """Runs operators as if removed channels had no inputs: `constants="fold"`.

    Where channels are made, by a product that mixes others, the rows of the weight at removed
    positions are zeroed. What such a channel emits after that, its bias for one, counts wherever it
    goes. Rows that make constants anyway are left as they are: `constant_rows` tells these, by the
    uses of weights (the name of the weight, and how many products took it before).
    """

    def __init__(
        self,
        labels: LabelAlgebra,
        removed: Removed,
        widening: Widening | None = None,
        norm: Norm = "kept",
        constant_rows: Rows | None = None,
    ) -> None:
        super().__init__(labels, removed, widening, norm)
        self.constant_rows: Rows = {} if constant_rows is None else constant_rows
        self._uses: Counter[str] = Counter()

    def zeroed(self, call: Call, rule: Rule) -> list[tuple[str, int]]:
        """What `norm="exact"` zeroes."""
        return list(rule.normalizes(call)) if self.norm == "exact" else []

    def masked(self, call: Call, rule: Rule) -> Call:
        """The call with zeros in the rows of weights that make removed channels."""
        product = Product.of(call)
        if product is None or not product.mixes:
            return super().masked(call, rule)
        name = str(getattr(call.arg(product.weight), STATE_NAME))
        self._uses[name] += 1
        gone = self.removed(product.channels(call))
        if not gone.any():
            return call
        gone = gone & ~self.constant(call, product, f"{name} {self._uses[name]}")
        weight = self.copy(call, product.weight)
        product.zero(weight, torch.from_numpy(gone).to(weight.device))
        put_axes(weight, call.axes(product.weight))
        args, kwargs = call.replaced(**{product.weight: weight})
        return Call(self.labels, call.op, args, kwargs)

    def constant(self, call: Call, product: Product, use: str) -> NDArray[np.bool_]:
        """The rows of a weight that make constants, at one of its uses."""
        none = np.zeros(product.channels(call).size, dtype=np.bool_)
        return self.constant_rows.get(use, none)
