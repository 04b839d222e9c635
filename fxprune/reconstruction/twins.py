"""Whether channels that are made alike are alike wherever they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.products import Product
from fxprune.reference import StateMode, relabel
from fxprune.stepping import Stepper

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import LabelAlgebra
    from fxprune.readings.runs import Copy
    from fxprune.rules import Call, Rule


_NOISE = 4
"""How many units in the last place of the largest number around may be rounding."""


class TwinMode(StateMode):
    """Runs a model, and compares channels where products with weights read them.

    Two channels are alike if no number of one differs from that of the other by more than the root
    of the machine precision, as a share of the largest number of both; and by rounding, for which
    channels that are much larger account (not in half precision, where that would be coarse).

    Args:
        labels: those of the run.
        into: for each id that of the channel that is to carry the same.

    Attributes:
        failed: which ids do not carry the same.
    """

    def __init__(self, labels: LabelAlgebra, into: NDArray[np.int64]) -> None:
        super().__init__(labels, lambda axis: np.zeros(axis.size, dtype=np.bool_))
        self.into = into
        self.failed = np.zeros(len(into), dtype=np.bool_)

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator; compare what it reads."""
        product = Product.of(call)
        if product is not None and call.axes(product.x):
            x = call.arg(product.x)
            dim = 1 if call.op is torch.ops.aten.convolution.default else x.dim() - 1
            for vector in self.labels.leaves(call.axes(product.x)[dim]):
                self._compare(x.movedim(dim, 0), vector)
        return super().run(call, rule)

    def _compare(self, rows: torch.Tensor, ids: NDArray[np.int64]) -> None:
        """Compare the rows at the positions of channels, in their order."""
        present = np.unique(ids[ids < len(self.into)])
        moved = present[self.into[present] != present]
        if not moved.size:
            return
        order = np.argsort(ids, kind="stable")
        ordered, targets = ids[order], self.into[moved]
        start, end = (np.searchsorted(ordered, moved, side) for side in ("left", "right"))
        other, stop = (np.searchsorted(ordered, targets, side) for side in ("left", "right"))
        counts = end - start
        same = (stop - other == counts) & (rows.numel() > 0)
        self.failed[moved[~same]] = True
        if not same.any():
            return
        eps = torch.finfo(rows.dtype).eps
        noise = _NOISE * eps * rows.abs().max().double() if rows.element_size() > 2 else 0.0
        for count in np.unique(counts[same]).tolist():
            among = np.flatnonzero(same & (counts == count))
            one, two = (
                rows[torch.from_numpy(order[first[among, None] + np.arange(count)])].flatten(1)
                for first in (start, other)
            )
            largest = torch.maximum(one.abs().amax(1), two.abs().amax(1)).double()
            apart = (one - two).abs().amax(1).double()
            alike = (apart <= eps**0.5 * largest + noise).cpu().numpy()
            self.failed[moved[among[~alike]]] = True


def unlike(
    deps: DependencyGraph, copy: Copy, values: list[Any], into: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], set[str]]:
    """Which channels do not carry the same as those that they are to go into, in one run.

    Args:
        deps: the analysis.
        copy: the model, in which such channels are made alike.
        values: one for each placeholder.
        into: for each id the other one.

    Returns:
        A mask of ids, and the names of the stored tensors that forward writes into.
    """
    mode = TwinMode(deps.trace.labels.copy(), into)
    for node, value in Stepper("the model", copy.module, values, mode):
        relabel(value, deps.trace.values.get(node.name), mode.labels)
    return mode.failed, {copy.names[m] for m in mode.written if m in copy.names}
