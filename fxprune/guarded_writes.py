"""Tensors that are lent: whoever runs on them must not write into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fxprune.meta_kernels import DispatchMode
from fxprune.rules import written
from fxprune.values import memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch._ops import OpOverload


class LentError(RuntimeError):
    """An operator was about to write into a tensor that was lent."""


class Lent(DispatchMode):
    """Refuses operators that write into the memory of some tensors.

    Lending weights instead of copying them takes no memory. Nothing has happened to them when an
    operator is refused, so that who lends can start again, on a copy.

    Attributes:
        is_written: whether an operator was refused, even if whoever ran it went on.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._memory = {memory(tensor) for tensor in tensors}
        self.is_written = False

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator, unless it writes into what was lent."""
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            targets = written(func, args, kwargs)
            if any(memory(target) in self._memory for target in targets if target.numel()):
                self.is_written = True
                raise LentError(f"{func} writes into a weight")
        return func(*args, **kwargs)
