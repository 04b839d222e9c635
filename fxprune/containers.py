"""Looking into values: lists, dicts, whatever torch knows, and dataclasses."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Iterator


def is_record(value: Any) -> bool:
    """Whether a value is an instance of a dataclass that torch does not look into."""
    return is_dataclass(value) and not isinstance(value, type) and pytree.tree_is_leaf(value)


def contents(record: Any) -> list[Any]:
    """The fields of a dataclass in order."""
    return [getattr(record, field.name) for field in fields(record)]


def leaves(value: Any) -> Iterator[Any]:
    """What a value holds, in a fixed order, dataclasses looked into."""
    for leaf in pytree.tree_leaves(value):
        if is_record(leaf):
            yield from leaves(contents(leaf))
        else:
            yield leaf
