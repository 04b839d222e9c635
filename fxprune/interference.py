"""Non-interference: what is removed must not reach what is kept.

The original runs with NaN at all removed positions of whatever operators return, and with zeros
where it sums over them, as the definition has it. A NaN at a kept position comes from a removed
one: the labels say that nothing leads there, and something does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.reference import MaskedMode
from fxprune.rules import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch._ops import OpOverload

    from fxprune.labels import Axis
    from fxprune.rules import Rule

aten = torch.ops.aten
_PARTNERS: dict[OpOverload, tuple[str, int]] = {
    aten.linear.default: ("weight", 1),
    aten.mm.default: ("mat2", 0),
    aten.addmm.default: ("mat2", 0),
    aten.bmm.default: ("mat2", 1),
    aten.baddbmm.default: ("batch2", 1),
    aten.mv.default: ("vec", 0),
    aten.dot.default: ("tensor", 0),
    aten.vdot.default: ("other", 0),
}
"""The other operand of a product, and the dim of it that is summed over."""
_SUMS_ALONE = frozenset({"sum", "nansum"})
_TWO_OPERANDS = 2


class PoisonMode(MaskedMode):
    """Runs operators with NaN at removed positions.

    Of a product both operands are zeroed where it sums, for NaN times zero is NaN. Of operators
    whose other operand is not known, all removed positions of the operands are.
    """

    def run_operator(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Run an operator, and poison what it returns."""
        out = super().run_operator(func, args, kwargs)
        operands = {_memory(t) for t in Call(self.labels, func, args, kwargs).tensors()}
        for tensor in Call(self.labels, func, args, kwargs, out).outputs():
            if _memory(tensor) not in operands:  # a view: its base is poisoned
                self.poison(tensor)
        return out

    def poison(self, tensor: torch.Tensor) -> None:
        """Put NaN at the removed positions of a tensor."""
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.element_size() == 1:
            return
        for dim, axis in enumerate(_axes(tensor)):
            gone = self.removed(axis)
            if gone.any():
                index = torch.from_numpy(np.flatnonzero(gone)).to(tensor.device)
                tensor.index_fill_(dim, index, torch.nan)

    def poison_all(self, state: Iterable[torch.Tensor]) -> None:
        """Put NaN at the removed positions of parameters and buffers."""
        for tensor in state:
            self.poison(tensor)

    def zeroed(self, call: Call, rule: Rule) -> list[tuple[str, int]]:
        """What sums see of both operands."""
        found = super().zeroed(call, rule)
        if not found or call.name in _SUMS_ALONE:
            return found
        if call.op is aten.convolution.default:
            return [*found, ("weight", 0 if call.arg("transposed") else 1)]
        if call.op in _PARTNERS:
            return [*found, _PARTNERS[call.op]]
        names = [argument.name for argument in call.op._schema.arguments]
        given = [(name, call.arg(name)) for name in names]
        dims = [(n, d) for n, t in given if isinstance(t, torch.Tensor) for d in range(t.dim())]
        return list(dict.fromkeys([*found, *dims]))


def _axes(tensor: torch.Tensor) -> Sequence[Axis]:
    axes: Sequence[Axis] | None = getattr(tensor, "_fxprune_axes", None)
    return axes if axes is not None and len(axes) == tensor.dim() else ()


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
