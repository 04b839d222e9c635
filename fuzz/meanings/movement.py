"""Data movement: the mask moves as the data does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from fuzz.masked import Masked, data_of, masked, meaning, written_out


def _mask_of(value: Any) -> Any:
    """What moves in place of an operand: its mask."""
    if isinstance(value, Masked):
        return value.gone
    if isinstance(value, Tensor):
        return torch.zeros_like(value, dtype=torch.bool)
    return value


def _together(data: Any, gone: Any) -> Any:
    if isinstance(data, Tensor):
        return Masked(data, gone)
    return type(data)(_together(d, g) for d, g in zip(data, gone, strict=True))


@meaning(
    *("view", "reshape", "flatten", "unflatten", "ravel", "permute", "transpose", "swapaxes"),
    *("movedim", "unsqueeze", "squeeze", "expand", "expand_as", "repeat", "tile", "t", "chunk"),
    *("split", "tensor_split", "unbind", "narrow", "select", "flip", "roll", "cat", "concat"),
    *("stack", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "repeat_interleave"),
    *("rot90", "diagonal", "hstack", "hsplit", "view_as", "select_scatter", "slice_scatter"),
    *("diagonal_scatter", "block_diag"),
)
def moved(func: Any, args: Any, kwargs: Any) -> Any:
    """The same movement of data and mask; a view of the one is a view of the other."""
    data = func(*data_of(args), **data_of(kwargs))
    return _together(data, func(*_masks(args), **_masks(kwargs)))


def _masks(values: Any) -> Any:
    return pytree.tree_map(_mask_of, values)


@meaning("unfold")
def unfold(func: Any, args: Any, kwargs: Any) -> Masked:
    """Windows along a dim of a tensor, or of images, whose channels go with all their rows."""
    if func is torch.Tensor.unfold:
        moved_both: Masked = moved(func, args, kwargs)
        return moved_both
    data = func(args[0].data, *args[1:], **kwargs)
    channels = per_channel(args[0]).flatten(1)
    rows = channels.repeat_interleave(data.shape[1] // channels.shape[1], 1)
    return Masked(data, rows[..., None].expand(data.shape).contiguous())


def per_channel(x: Masked) -> Tensor:
    """(N, C, 1, ...): what is gone of an image's channels."""
    return x.gone.flatten(2).any(2).view(*x.shape[:2], *[1] * (x.dim() - 2))


@written_out("pad")
def pad(x: Masked, pad: Any, mode: str = "constant", value: float | None = None) -> Masked:
    """What is added along some dims is gone where all that it stands beside is gone."""
    data = functional.pad(x.data, pad, mode=mode, value=value)
    dims = [x.dim() - 1 - i for i in range(len(pad) // 2) if pad[2 * i] or pad[2 * i + 1]]
    beside = x.gone
    for dim in dims:
        beside = beside.all(dim, keepdim=True)
    inner = functional.pad((x.gone & ~beside).double(), pad, mode=mode) != 0
    return Masked(data, inner | beside)


@meaning("getitem")
def getitem(func: Any, args: Any, kwargs: Any) -> Masked:
    """Positions that a pruned table of positions has lost are gone from the result."""
    x, key = args
    keys = key if isinstance(key, tuple) else (key,)
    data, gone = x.data[data_of(key)], x.gone[data_of(key)]
    for place, part in enumerate(keys):
        if isinstance(part, Masked) and part.gone.any():
            lost = part.gone.view(*part.shape, *[1] * (gone.dim() - place - part.dim()))
            gone = gone | lost
    return Masked(data, gone)


@written_out("index_select")
def index_select(x: Masked, dim: int, index: Any) -> Masked:
    """As `getitem`, along one dim."""
    index = masked(index)
    data = x.data.index_select(dim, index.data)
    lost = index.gone.view(-1, *[1] * (x.dim() - dim % x.dim() - 1))
    return Masked(data, x.gone.index_select(dim, index.data) | lost)


@written_out("gather", "take_along_dim")
def gather(x: Masked, dim: int, index: Any) -> Masked:
    """As `index_select`, with an index for every element of the result."""
    places = masked(index).data
    return Masked(x.data.gather(dim, places), x.gone.gather(dim, places))


@written_out("diag_embed")
def diag_embed(x: Masked) -> Masked:
    """A diagonal matrix: what is gone takes its row and its column with it."""
    return Masked(torch.diag_embed(x.data), x.gone.unsqueeze(-1) | x.gone.unsqueeze(-2))
