"""Repairs of positions: what names places along a pruned axis gets their new numbers."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from fxprune.interpretation import TracedTensor
from fxprune.passes.repair import Repair, operation

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _move(kept: NDArray[np.int64], positions: NDArray[np.int64]) -> list[int]:
    """New numbers of those of the positions that are kept, in the given order."""
    number = np.full(int(kept.max(initial=-1)) + 1, -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    inside = positions[positions < len(number)]
    return [int(n) for n in number[inside] if n >= 0]


def _moved_slice(kept: NDArray[np.int64], size: int, piece: slice) -> slice | list[int]:
    """The slice (or else the list) of kept positions that a slice named.

    An unbroken range stays one: its ends count the kept positions before them.
    """
    start, stop, step = piece.indices(size)
    if step == 1:
        low = int(np.searchsorted(kept, start))
        return slice(low, max(low, int(np.searchsorted(kept, stop))), None)
    moved = _move(kept, np.arange(start, stop, step))
    gaps = set(np.diff(moved).tolist()) or {1}
    if len(gaps) == 1 and moved and min(gaps) > 0:
        return slice(moved[0], moved[-1] + 1, min(gaps))
    return moved


def _as_view(repair: Repair, moved: slice | list[int]) -> slice | list[int]:
    """What replaces a slice. A list of positions makes a copy, which must not be written to."""
    if isinstance(moved, list) and repair.is_written_to():
        raise repair.fail(
            "it is a view with a step that is written to in place, and the kept positions have no"
            " even step"
        )
    return moved


def getitem(repair: Repair) -> bool:
    """`x[...]` and `x[...] = y`: what names positions of a pruned dim gets new numbers."""
    if not isinstance(repair.layout.value(repair.node.all_input_nodes[0].name), TracedTensor):
        return False
    given = repair.node.args[1]
    items = list(given) if isinstance(given, tuple) else [given]
    rank = len(repair.operand.axes)
    if Ellipsis in [i for i in items if not isinstance(i, fx.Node)]:
        where = next(k for k, i in enumerate(items) if i is Ellipsis)
        used = sum(i is not None and i is not Ellipsis for i in items)
        items[where : where + 1] = [slice(None)] * (rank - used)
    dim, changed = 0, False
    for k, item in enumerate(items):
        if item is None:
            continue
        if repair.is_pruned(dim):
            items[k] = _moved_item(repair, item, dim)
            changed |= items[k] is not item
        dim += 1
    if changed:
        repair.node.update_arg(1, tuple(items))
    return changed


def _moved_item(repair: Repair, item: Any, dim: int) -> Any:
    value = repair.original(item)
    kept, size = repair.kept(dim), repair.operand.shape[dim]
    if isinstance(value, slice):
        if value == slice(None):
            return item
        moved = _moved_slice(kept, size, value)
        return (
            moved
            if operation(repair.node, repair.graph_module) == "setitem"
            else (_as_view(repair, moved))
        )
    if isinstance(value, int):
        return _move(kept, np.array([value % size]))[0]
    return _moved_index(repair, item, dim)


def _moved_index(repair: Repair, item: Any, dim: int) -> Any:
    """A list or known tensor of positions; a tensor becomes a new buffer of the model."""
    value = repair.original(item)
    if isinstance(value, TracedTensor):
        if value.value is None:
            raise repair.fail(f"the positions on dim {dim} are not known at compile time")
        numbers = value.value.cpu().numpy()
    else:
        numbers = np.asarray(value, dtype=np.int64)
    moved = _move(repair.kept(dim), numbers % repair.operand.shape[dim])
    if not isinstance(value, TracedTensor):
        return moved
    name = f"{repair.node.name}_index"
    while hasattr(repair.graph_module, name):
        name += "_"
    assert value.value is not None
    device = value.value.device
    repair.graph_module.register_buffer(name, torch.tensor(moved, device=device))
    with repair.node.graph.inserting_before(repair.node):
        return repair.node.graph.get_attr(name)


def index(repair: Repair) -> bool:
    """aten.index: a list with a tensor or None for each dim."""
    given: list[Any] = list(repair.argument(1, "indices"))
    moved = [
        _moved_index(repair, item, dim) if item is not None and repair.is_pruned(dim) else item
        for dim, item in enumerate(given)
    ]
    return repair.set(1, ("indices",), moved) if moved != given else False


def index_select(repair: Repair) -> bool:
    """`index_select(x, dim, index)`."""
    dim = repair.dim(1)
    if not repair.is_pruned(dim):
        return False
    return repair.set(2, ("index",), _moved_index(repair, repair.argument(2, "index"), dim))


def slice_(repair: Repair) -> bool:
    """aten.slice(x, dim, start, end, step)."""
    dim = repair.dim(1)
    if not repair.is_pruned(dim):
        return False
    defaults = (0, None, None, 1)
    _, start, stop, step = (
        repair.original(repair.argument(i + 1, default=d)) for i, d in enumerate(defaults)
    )
    moved = _moved_slice(repair.kept(dim), repair.operand.shape[dim], slice(start, stop, step))
    return _replace_by_slice(repair, dim, _as_view(repair, moved))


def narrow(repair: Repair) -> bool:
    """`narrow(x, dim, start, length)`."""
    dim = repair.dim(1)
    if not repair.is_pruned(dim):
        return False
    size = repair.operand.shape[dim]
    start = int(repair.original(repair.argument(2, "start"))) % size
    length = int(repair.original(repair.argument(3, "length")))
    moved = _moved_slice(repair.kept(dim), size, slice(start, start + length))
    return _replace_by_slice(repair, dim, moved)


def _replace_by_slice(repair: Repair, dim: int, moved: slice | list[int]) -> bool:
    node = repair.node
    node.op, node.target = "call_function", operator.getitem
    node.args, node.kwargs = (node.args[0], (*[slice(None)] * dim, moved)), {}
    return True


def select(repair: Repair) -> bool:
    """`select(x, dim, index)`; the selected position stays."""
    dim = repair.dim(1)
    if not repair.is_pruned(dim):
        return False
    index = int(repair.original(repair.argument(2, "index"))) % repair.operand.shape[dim]
    return repair.set(2, ("index",), _move(repair.kept(dim), np.array([index]))[0])


def roll(repair: Repair) -> bool:
    """A rotation by s positions is one by as many as are kept among the last s."""
    shifts = repair.original(repair.argument(1, "shifts"))
    dims = repair.argument(2, "dims", default=())
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    dims = [dims] if isinstance(dims, int) else list(dims)
    new = []
    for shift, dim in zip(shifts, dims, strict=True):
        size = repair.operand.shape[dim]
        kept = repair.kept(dim % len(repair.operand.shape))
        is_pruned = len(kept) < size
        new.append(int((kept >= size - shift % size).sum()) if is_pruned else shift)
    return new != shifts and repair.set(1, ("shifts",), new)


def pad(repair: Repair) -> bool:
    """Padding of a pruned axis: as many positions on each side as the plan leaves there."""
    pad = list(repair.argument(1, "pad", "padding"))
    new = list(pad)
    rank = len(repair.operand.axes)
    for back in range(len(pad) // 2):
        dim = rank - 1 - back
        left, right = (int(repair.original(p)) for p in pad[2 * back : 2 * back + 2])
        axis = repair.outputs[0].axes[dim]
        if (left == right == 0) or not (
            repair.is_pruned(dim) or repair.layout.kept(axis) is not None
        ):
            continue
        stays = repair.layout.kept(axis)
        stays = np.arange(axis.size) if stays is None else stays
        inside = repair.kept(dim)
        size = repair.operand.shape[dim]
        crop_left = int((inside < -left).sum())
        crop_right = int((inside >= size + right).sum())
        new[2 * back] = int((stays < left).sum()) if left > 0 else -crop_left
        new[2 * back + 1] = int((stays >= left + size).sum()) if right > 0 else -crop_right
    return new != pad and repair.set(1, ("pad", "padding"), new)
