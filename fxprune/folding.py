"""The reference for `constants="fold"`: removed channels have no inputs, and emit what they do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.products import Product
from fxprune.reference import StateMode
from fxprune.rules import Call, put_axes
from fxprune.traces import STATE_NAME

if TYPE_CHECKING:
    from fxprune.labels import LabelAlgebra
    from fxprune.meaning import Norm
    from fxprune.precision import Widening
    from fxprune.reference import Removed
    from fxprune.rules import Rule

Rows: TypeAlias = dict[str, NDArray[np.bool_]]


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
