"""A memory of meta kernels: what an operator returned for tensors of the same shapes.

Models repeat their blocks, and many meta kernels run through Python, a layer norm for milliseconds.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from fxprune.values import memory

if TYPE_CHECKING:
    from torch._ops import OpOverload

Layout: TypeAlias = tuple[torch.Size, tuple[int, ...], torch.dtype]
"""Shape, strides, dtype."""
_MOST = 4096
_KNOWN: dict[Hashable, Outcome] = {}
_TENSORS = (torch.Tensor, nn.Parameter)
_PLAIN = frozenset(
    (bool, int, float, str, type(None), torch.dtype, torch.device, torch.layout, torch.Size)
)
_BY_DATA = (torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output)


@dataclass(frozen=True)
class Outcome:
    """New tensors that an operator returned: one, or a tuple of them."""

    layouts: tuple[Layout, ...]
    is_single: bool

    def again(self) -> Any:
        """New tensors of these layouts."""
        made = [
            torch.empty_strided(shape, stride, dtype=dtype, device="meta")
            for shape, stride, dtype in self.layouts
        ]
        return made[0] if self.is_single else tuple(made)


def run_once(op: OpOverload, args: Any, kwargs: Any) -> Any:
    """Run an operator on meta tensors, or repeat what it returned for the like.

    Only outcomes are repeated that follow from shapes, strides and types, and that share no memory
    with an operand.
    """
    key = _key(op, args, kwargs) if _makes_new_tensors(op) else None
    known = _KNOWN.get(key) if key is not None else None
    if known is not None:
        return known.again()
    out = op(*args, **kwargs)
    outcome = _outcome(out, (*args, *kwargs.values())) if key is not None else None
    if outcome is not None:
        if len(_KNOWN) >= _MOST:
            _KNOWN.clear()
        _KNOWN[key] = outcome
    return out


def forget() -> None:
    """Begin anew, as in a new process."""
    _KNOWN.clear()


@cache
def _makes_new_tensors(op: OpOverload) -> bool:
    """Whether an operator's schema promises new tensors, of shapes that need no data."""
    schema = op._schema
    aliases = [value.alias_info for value in (*schema.arguments, *schema.returns)]
    return op.namespace == "aten" and not any(aliases) and not any(t in op.tags for t in _BY_DATA)


def _key(op: OpOverload, args: Any, kwargs: Any) -> Hashable | None:
    """All that the layouts of the outcome depend on; None if there is more to it."""
    parts: list[Any] = [op, torch.get_default_dtype()]
    found = [_add(parts, value) for value in args]
    for name, value in kwargs.items():
        parts.append(name)
        found.append(_add(parts, value))
    return tuple(parts) if all(found) and any(type(p) is tuple for p in parts) else None


def _add(parts: list[Any], value: Any) -> bool:
    """Add what matters of an argument; False if that is not known. A tensor adds a tuple."""
    kind = type(value)
    if kind in _TENSORS:
        usual = value.device.type == "meta" and value.layout == torch.strided
        if not usual or value.is_complex() or not value.dim():  # it may stand for a number
            return False
        parts.append((value.shape, value.stride(), value.dtype))
        return True
    if kind in (list, tuple):
        parts.extend((kind, len(value)))
        return all(_add(parts, item) for item in value)
    parts.extend((kind, value))
    return kind in _PLAIN


def _outcome(out: Any, given: Any) -> Outcome | None:
    made = [out] if isinstance(out, torch.Tensor) else out
    if type(made) not in (list, tuple) or not all(type(t) is torch.Tensor for t in made):
        return None
    plain = all(t.device.type == "meta" and not t.is_complex() for t in made)
    old, new = {memory(t) for t in _flat(given)}, {memory(t) for t in made}
    if not plain or old & new or len(new) < len(made):
        return None
    layouts = tuple((t.shape, t.stride(), t.dtype) for t in made)
    return Outcome(layouts, isinstance(out, torch.Tensor))


def _flat(values: Any) -> list[torch.Tensor]:
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _flat(value)
    return found
