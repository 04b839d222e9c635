"""The reference for `constants="fold"`: removed channels have no inputs, and emit what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fxprune.reference import StateMode, is_state

if TYPE_CHECKING:
    from torch._ops import OpOverload

    from fxprune.rules import Call, Rule

aten = torch.ops.aten
_PRODUCTS: dict[OpOverload, tuple[str, str, int, str | None]] = {
    aten.linear.default: ("input", "weight", 0, "bias"),
    aten.addmm.default: ("mat1", "mat2", 1, "self"),
    aten.mm.default: ("self", "mat2", 1, None),
    aten.bmm.default: ("self", "mat2", 2, None),
    aten.baddbmm.default: ("batch1", "batch2", 2, "self"),
    aten.convolution.default: ("input", "weight", 0, "bias"),
}


@dataclass(frozen=True)
class Product:
    """A product of a value and a weight.

    Attributes:
        x: the operand that is the value.
        weight: the operand that is, or is computed of, parameters alone.
        rows: the dim of the weight that gives the channels of the outcome.
        bias: the operand that is added to every channel, if the operator has one.
        mixes: whether a channel of the outcome is made of several of the value. A depthwise
            convolution passes channels through instead.
    """

    x: str
    weight: str
    rows: int
    bias: str | None
    mixes: bool

    @classmethod
    def of(cls, call: Call) -> Product | None:
        """The product that an operator makes of a weight, if it does."""
        if call.op not in _PRODUCTS:
            return None
        x, weight, rows, bias = _PRODUCTS[call.op]
        if not is_state(call.arg(weight)) or is_state(call.arg(x)):
            return None
        mixes = True
        if call.op is aten.convolution.default:
            groups = call.arg("groups")
            if call.arg("transposed") and groups > 1:
                return None
            rows = 1 if call.arg("transposed") else 0
            mixes = groups == 1 or call.arg(weight).shape[1] > 1
        return cls(x, weight, rows, bias, mixes)


class FoldedMode(StateMode):
    """Runs operators as if removed channels had no inputs: `constants="fold"`.

    Where channels are made, by a product that mixes others, the rows of the weight at removed
    positions are zeroed. What such a channel emits after that, its bias for one, counts wherever it
    goes.
    """

    def zeroed(self, call: Call, rule: Rule) -> list[tuple[str, int]]:
        """The rows of weights, and what `norm="exact"` zeroes."""
        across = rule.normalizes(call) if self.norm == "exact" else ()
        product = Product.of(call)
        rows = [(product.weight, product.rows)] if product is not None and product.mixes else []
        return [*rows, *across]
