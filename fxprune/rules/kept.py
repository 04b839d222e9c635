"""Running an operator on the kept positions only, as `norm="kept"` defines it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    import torch

    from fxprune.rules.call import Call

Kept: TypeAlias = "Mapping[str, Mapping[int, torch.Tensor]]"
"""Operand name -> dim -> index of the kept positions."""


def take(tensor: torch.Tensor, index: Mapping[int, torch.Tensor], shift: int = 0) -> torch.Tensor:
    """The kept positions of a tensor along several dims, each moved down by `shift`."""
    for dim, kept in index.items():
        tensor = tensor.index_select(dim - shift, kept)
    return tensor


def spread(like: torch.Tensor, index: Mapping[int, torch.Tensor], part: Any) -> Any:
    """`part` put back to its positions in a tensor of the shape of `like`, zeros elsewhere."""
    for dim, kept in index.items():
        shape = list(part.shape)
        shape[dim] = like.shape[dim]
        part = part.new_zeros(shape).index_copy_(dim, kept, part)
    return part


def sliced(call: Call, kept: Kept) -> Any:
    """Run an operator with its operands sliced: right where the sliced axes disappear."""
    changes = {name: take(call.arg(name), index) for name, index in kept.items()}
    args, kwargs = call.replaced(**changes)
    return call.op(*args, **kwargs)


def sliced_and_spread(call: Call, kept: Kept) -> Any:
    """Run an operator on a sliced operand and put every output back to full size."""
    ((name, index),) = kept.items()
    return pytree.tree_map(lambda out: spread(call.arg(name), index, out), sliced(call, kept))
