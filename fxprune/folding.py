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
from fxprune.traces import STATE_NAME

if TYPE_CHECKING:
    from torch._ops import OpOverload

    from fxprune.labels import LabelAlgebra
    from fxprune.meaning import Norm
    from fxprune.precision import Widening
    from fxprune.reference import Removed
    from fxprune.rules import Rule

Rows: TypeAlias = dict[str, NDArray[np.bool_]]

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
        gone = self.gone(call, product.weight, product.rows)
        if gone is None:
            return call
        gone = gone & ~self.constant(call, product, f"{name} {self._uses[name]}")
        weight = self.copy(call, product.weight)
        weight.index_fill_(
            product.rows, torch.from_numpy(np.flatnonzero(gone)).to(weight.device), 0
        )
        put_axes(weight, call.axes(product.weight))
        args, kwargs = call.replaced(**{product.weight: weight})
        return Call(self.labels, call.op, args, kwargs)

    def constant(self, call: Call, product: Product, use: str) -> NDArray[np.bool_]:
        """The rows of a weight that make constants, at one of its uses."""
        none = np.zeros(call.arg(product.weight).shape[product.rows], dtype=np.bool_)
        return self.constant_rows.get(use, none)
