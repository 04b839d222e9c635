"""Tensors in nested values: what models take and return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree


def plain(value: Any) -> Any:
    """A value with every mapping, sequence and dataclass as a dict, list or tuple.

    >>> from collections import OrderedDict
    >>> plain([OrderedDict(a=1)])
    [{'a': 1}]
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in a value, in a fixed order."""
    return [leaf for leaf in pytree.tree_leaves(plain(value)) if isinstance(leaf, torch.Tensor)]


def copied(value: Any) -> Any:
    """A value with copies of its tensors, for a model that may write into them."""
    return pytree.tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, value)
