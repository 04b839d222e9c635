"""What a module computes with, apart from its tensors' data: equal for modules that do the same."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

if TYPE_CHECKING:
    from torch import nn

Signature: TypeAlias = tuple[Any, ...]
_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)
_TENSORS = ("_parameters", "_buffers", "_modules")


def signature(module: nn.Module) -> Signature | None:
    """Classes, attributes and tensor shapes of a module and all below it.

    Returns:
        None if an attribute is neither plain nor a function: what it does is not known.
    """
    found: list[Any] = []
    for path, child in module.named_modules(remove_duplicate=False):
        for name, value in vars(child).items():
            if name in _TENSORS:
                continue
            plain = _plain(value)
            if plain is None:
                return None
            found.append((path, name, plain))
        found.append((path, type(child)))
    state = [*module.named_parameters(), *module.named_buffers()]
    return (*found, *((name, tuple(t.shape), _strides(t), t.dtype) for name, t in state))


def _strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Code may ask for them, and go another way."""
    return tensor.stride() if tensor.layout is torch.strided else ()


def _plain(value: Any) -> Signature | None:
    """A hashable stand-in for a value, with its type (1 is not 1.0); None if there is none."""
    if isinstance(value, (dict, set)):
        return None if value else (type(value),)
    if isinstance(value, (list, tuple)):
        parts = tuple(_plain(item) for item in value)
        return None if None in parts else (type(value), *parts)
    if isinstance(value, (*_PLAIN, *_FUNCTIONS)):
        return (type(value), repr(value) if isinstance(value, float) else value)  # -0.0 == 0.0
    return None
