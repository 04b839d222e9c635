"""Tensors in nested values: what models take and return."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

_NOT_DATA = (bool, int, float, str, type(None), type, torch.Tensor, nn.Module, fx.Node)
_DEPTH = 6
"""How deep in objects of unknown types tensors are looked for."""
_ROOM = 24
"""How deep values are read, for such objects may hold one another."""


def plain(value: Any, room: int = _ROOM) -> Any:
    """A value with every mapping, sequence and dataclass as a dict, list or tuple.

    >>> from collections import OrderedDict
    >>> plain([OrderedDict(a=1)])
    [{'a': 1}]
    """
    if not room:
        return value
    if isinstance(value, Mapping):
        return {key: plain(item, room - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, room - 1) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item, room - 1) for item in value)
    attributes = parts(value)
    if attributes is None:
        return value
    return {name: plain(item, room - 1) for name, item in attributes.items()}


def parts(value: Any) -> dict[str, Any] | None:
    """The attributes of a dataclass, or of any other object that holds tensors; None of others."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, _NOT_DATA) or callable(value):
        return None
    attributes: dict[str, Any] = getattr(value, "__dict__", {})
    return dict(attributes) if _holds_tensors(attributes, _DEPTH) else None


def _holds_tensors(value: Any, depth: int) -> bool:
    if isinstance(value, torch.Tensor) or not depth:
        return isinstance(value, torch.Tensor)
    if isinstance(value, Mapping):
        return any(_holds_tensors(item, depth - 1) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_tensors(item, depth - 1) for item in value)
    if isinstance(value, _NOT_DATA) or callable(value):
        return False
    return _holds_tensors(getattr(value, "__dict__", None) or 0, depth - 1)


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in a value, in a fixed order."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [leaf for leaf in pytree.tree_leaves(plain(value)) if isinstance(leaf, torch.Tensor)]


def memory(tensor: torch.Tensor) -> int:
    """What tells whether tensors share memory; of no meaning once all that do are gone."""
    return int(tensor.untyped_storage()._cdata)


def taken(
    tensor: torch.Tensor, dim: int, positions: torch.Tensor, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`tensor.index_select(dim, positions)`, which takes up to twenty times as long in rows."""
    if dim % tensor.dim() < tensor.dim() - 1 or tensor.element_size() == 1:
        return torch.index_select(tensor, dim, positions, out=out)
    return torch.gather(tensor, dim, positions.expand(*tensor.shape[:-1], len(positions)), out=out)


class Scratch:
    """Memory for values that are of no use any more when the next of their purpose is made.

    A system hands out fresh memory page by page, which takes several times as long as copying or
    subtracting what a page holds.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    def like(self, tensor: torch.Tensor, shape: Sequence[int], purpose: str) -> torch.Tensor:
        """A contiguous tensor of any values, with a type and device as `tensor` has."""
        key, size = (purpose, tensor.dtype, tensor.device), math.prod(shape)
        held = self._held.get(key)
        if held is None or held.numel() < size:
            self._held.pop(key, None)
            held = self._held[key] = torch.empty(size, dtype=tensor.dtype, device=tensor.device)
        return held[:size].view(tuple(shape))


def copied(value: Any) -> Any:
    """A value with copies of its tensors, for a model that may write into them."""
    return mapped(lambda tensor: tensor.clone(), value)


def mapped(
    function: Callable[[Any], Any], value: Any, room: int = _ROOM, *, kind: type = torch.Tensor
) -> Any:
    """A value with every tensor (or what else is of a kind) replaced by what a function makes."""

    def replaced(leaf: Any) -> Any:
        if isinstance(leaf, kind):
            return function(leaf)
        attributes = parts(leaf) if room else None
        if attributes is None:
            return leaf
        twin = copy.copy(leaf)
        for name, item in attributes.items():
            object.__setattr__(twin, name, mapped(function, item, room - 1, kind=kind))
        return twin

    return pytree.tree_map(replaced, value)
