"""Non-interference: what is removed must not reach what is kept.

The original runs with NaN at all removed positions of whatever operators return, and with zeros
where it sums over them, as the definition has it. A NaN at a kept position comes from a removed
one: the labels say that nothing leads there, and something does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.reference import PARTNERS, MaskedMode
from fxprune.rules import Call, axes_of
from fxprune.values import memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch._ops import OpOverload

    from fxprune.rules import Rule

aten = torch.ops.aten
_SUMS_ALONE = frozenset({"sum", "nansum"})


class PoisonMode(MaskedMode):
    """Runs operators with NaN at removed positions.

    Of a product both operands are zeroed where it sums, for NaN times zero is NaN. Of operators
    whose other operand is not known, all removed positions of the operands are.
    """

    def run_operator(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Run an operator, and poison what it returns."""
        call = Call(self.labels, func, args, kwargs)
        call.out = super().run_operator(func, args, kwargs)
        operands = {memory(tensor) for tensor in call.tensors()}
        for tensor in call.outputs():
            if memory(tensor) not in operands:  # a view: its base is poisoned
                self.poison(tensor)
        return call.out

    def poison(self, tensor: torch.Tensor) -> None:
        """Put NaN at the removed positions of a tensor."""
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.element_size() == 1:
            return
        for dim, axis in enumerate(axes_of(tensor, self.labels)):
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
        if call.op in PARTNERS:
            return [*found, PARTNERS[call.op]]
        names = [argument.name for argument in call.op._schema.arguments]
        given = [(name, call.arg(name)) for name in names]
        dims = [(n, d) for n, t in given if isinstance(t, torch.Tensor) for d in range(t.dim())]
        return list(dict.fromkeys([*found, *dims]))
