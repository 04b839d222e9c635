"""What a node's arguments become on the new widths, by operator.

Operators are named as people write them: `view` is the method, `torch.Tensor.view` and
`aten.view.default` alike. Each repair returns whether it changed the node.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import fx

from fxprune.errors import RewriteError
from fxprune.interpretation import TracedTensor
from fxprune.rules import locate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fxprune.planning import Layout


@dataclass(frozen=True)
class Repair:
    """A node under repair, with what is known of its operands before and after."""

    node: fx.Node
    graph_module: fx.GraphModule
    layout: Layout

    def original(self, argument: Any) -> Any:
        """What an argument was in the original: nodes replaced by their values."""
        return fx.map_arg(argument, lambda n: self.layout.value(n.name))

    def argument(self, position: int, *names: str, default: Any = None) -> Any:
        """An argument by position or by one of its names, as it stands in the node."""
        if position < len(self.node.args):
            return self.node.args[position]
        return next((self.node.kwargs[n] for n in names if n in self.node.kwargs), default)

    def set(self, position: int, names: Sequence[str], value: Any) -> bool:
        """Change an argument where it stands; tells whether it differs."""
        if position < len(self.node.args):
            if self.node.args[position] == value:
                return False
            self.node.update_arg(position, value)
            return True
        name = next((n for n in names if n in self.node.kwargs), names[0])
        if self.node.kwargs.get(name) == value:
            return False
        self.node.update_kwarg(name, value)
        return True

    @property
    def operand(self) -> TracedTensor:
        """The first tensor operand, as the analysis saw it."""
        return self.layout.tensors(self.node.all_input_nodes[0].name)[0]

    @property
    def outputs(self) -> list[TracedTensor]:
        """The tensors of the node's value, as the analysis saw them."""
        return self.layout.tensors(self.node.name)

    def kept(self, dim: int) -> NDArray[np.int64]:
        """The kept positions of a dim of the first operand."""
        axis = self.operand.axes[dim]
        kept = self.layout.kept(axis)
        return np.arange(axis.size) if kept is None else kept

    def is_pruned(self, dim: int) -> bool:
        """Whether the first operand loses positions along a dim."""
        return self.layout.kept(self.operand.axes[dim]) is not None

    def dim(self, position: int, *, default: int = 0) -> int:
        """A dim argument, counted from the front."""
        return int(self.argument(position, "dim", "axis", default=default)) % len(self.operand.axes)

    def names_pruned_axis(self) -> bool:
        """Whether an operand or output loses positions."""
        tensors = [t for n in self.node.all_input_nodes for t in self.layout.tensors(n.name)]
        return any(self.layout.shape(t) != t.shape for t in tensors + self.outputs)

    def operand_shapes(self) -> list[tuple[int, ...]]:
        """The new shapes of all tensor operands."""
        nodes = self.node.all_input_nodes
        return [self.layout.shape(t) for n in nodes for t in self.layout.tensors(n.name)]

    def fail(self, why: str) -> RewriteError:
        """An error that names the node."""
        return RewriteError(
            f"node {self.node.name} cannot be repaired",
            where=locate(self.node),
            why=why,
            hint="ignore the groups that reach it",
        )


Change: TypeAlias = Callable[[Repair], bool]


def operation(node: fx.Node, graph_module: fx.GraphModule) -> str:
    """The plain name of what a node calls."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    if node.op == "call_module":
        return type(graph_module.get_submodule(str(node.target))).__name__
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target._schema.name.split("::")[1].rstrip("_"))
    return str(getattr(node.target, "__name__", node.target)).rstrip("_")


# -- sizes ----------------------------------------------------------------------------------


def _sizes(first: int) -> Change:
    """A repair of sizes that begin at an argument, as a list or one by one."""

    def change(repair: Repair) -> bool:
        return _set_sizes(repair, first, repair.outputs[0])

    return change


def _set_sizes(repair: Repair, first: int, output: TracedTensor, start: int = 0) -> bool:
    names = ("shape", "size", "sizes", "dims", "unflattened_size")
    listed = repair.argument(first, *names)
    is_list = isinstance(listed, (list, tuple))
    given = list(listed) if is_list else list(repair.node.args[first:])
    old = output.shape[start : start + len(given)]
    new = repair.layout.shape(output)[start : start + len(given)]
    if len(given) == 1 and isinstance(given[0], fx.Node) and not is_list and len(output.shape) > 1:
        return _set_from_tuple(repair, first, given[0], output)
    wrong = [k for k, (o, n) in enumerate(zip(old, new, strict=True)) if o != n]
    fixed = list(given)
    for k in wrong:
        fixed[k] = _size(repair, given, k, old[k], new[k], is_only_one=len(wrong) == 1)
    if fixed == given:
        return False
    if is_list:
        return repair.set(first, names, type(listed)(fixed))
    repair.node.args = (*repair.node.args[:first], *fixed)
    return True


def _size(
    repair: Repair, given: Sequence[Any], k: int, old: int, new: int, *, is_only_one: bool
) -> Any:
    """What a wrong size becomes: worked out by torch, scaled, or the new number.

    A computed size can hold other factors (a batch, a resolution), which must stay dynamic.
    """
    size = given[k]
    if isinstance(size, int):
        return -1 if size == -1 else new
    name = operation(repair.node, repair.graph_module)
    if is_only_one and -1 not in given and name in ("view", "_unsafe_view", "reshape"):
        return -1
    graph = repair.node.graph
    with graph.inserting_before(repair.node):
        return graph.call_function(
            operator.floordiv, (graph.call_function(operator.mul, (size, new)), old)
        )


def _set_from_tuple(repair: Repair, first: int, shape: fx.Node, output: TracedTensor) -> bool:
    """`x.view(y.shape)`: unpack the tuple and replace the sizes that changed."""
    new = repair.layout.shape(output)
    with repair.node.graph.inserting_before(repair.node):
        sizes = [
            n if n != o else repair.node.graph.call_function(operator.getitem, (shape, i))
            for i, (o, n) in enumerate(zip(output.shape, new, strict=True))
        ]
    repair.node.args = (*repair.node.args[:first], tuple(sizes))
    return True


def _unflatten(repair: Repair) -> bool:
    return _set_sizes(repair, 2, repair.outputs[0], repair.dim(1))


def _repeat(repair: Repair) -> bool:
    listed = repair.argument(1, "repeats", "dims", "sizes")
    is_list = isinstance(listed, (list, tuple))
    given = list(listed) if is_list else list(repair.node.args[1:])
    new_out, new_in = repair.layout.shape(repair.outputs[0]), repair.layout.shape(repair.operand)
    offset = len(new_out) - len(new_in)
    fixed = [
        n if d < offset else n // new_in[d - offset]
        for d, n in enumerate(new_out[len(new_out) - len(given) :], len(new_out) - len(given))
    ]
    values = [g if repair.original(g) == f else f for g, f in zip(given, fixed, strict=True)]
    if is_list:
        return repair.set(1, ("repeats", "dims", "sizes"), type(listed)(values))
    repair.node.args = (repair.node.args[0], *values)
    return True


def _normalized_shape(repair: Repair) -> bool:
    count = len(repair.original(repair.argument(1, "normalized_shape")))
    shape = repair.layout.shape(repair.operand)
    return repair.set(1, ("normalized_shape",), tuple(shape[len(shape) - count :]))


def _conv_groups(position: int, *, transposed: bool = False) -> Change:
    def change(repair: Repair) -> bool:
        is_transposed = transposed
        if position == 8:  # aten.convolution tells by an argument
            is_transposed = bool(repair.node.args[6])
        weight = repair.layout.tensors(repair.node.all_input_nodes[1].name)[0]
        width = repair.layout.shape(repair.outputs[0] if is_transposed else repair.operand)[1]
        groups = width // repair.layout.shape(weight)[1]
        if groups == repair.original(repair.argument(position, "groups", default=1)):
            return False
        return repair.set(position, ("groups",), groups)

    return change


def _norm_groups(position: int) -> Change:
    """One group for each channel stays so."""

    def change(repair: Repair) -> bool:
        channels = repair.operand.shape[1]
        if repair.original(repair.argument(position, "num_groups", "group")) != channels:
            return False
        return repair.set(position, ("num_groups",), repair.layout.shape(repair.operand)[1])

    return change


def _native_group_norm(repair: Repair) -> bool:
    """aten.native_group_norm names the channels besides the groups."""
    changed = _norm_groups(6)(repair)
    return repair.set(4, ("C",), repair.layout.shape(repair.operand)[1]) or changed


def _attention_scale(repair: Repair) -> bool:
    """The default scale is that of the original width."""
    if repair.argument(6, "scale") is not None or not repair.is_pruned(-1):
        return False
    repair.node.update_kwarg("scale", repair.operand.shape[-1] ** -0.5)
    return True


def _squeeze(repair: Repair) -> bool:
    """An axis that has shrunk to one position is not one to squeeze."""
    given = repair.argument(1, "dim")
    rank = len(repair.operand.axes)
    dims = range(rank) if given is None else [given] if isinstance(given, int) else list(given)
    right = tuple(d % rank for d in dims if repair.operand.shape[d] == 1)
    if repair.node.op == "call_function" and not callable(
        getattr(repair.node.target, "_schema", None)
    ):
        repair.node.target = torch.squeeze
    repair.node.args, repair.node.kwargs = (repair.node.args[0], right), {}
    return True


def _pieces(repair: Repair) -> bool:
    """`chunk` and `split` name sizes: from now on the predicted ones."""
    position = 2
    dim = repair.dim(position)
    sizes = [repair.layout.shape(piece)[dim] for piece in repair.outputs]
    repair.node.op, repair.node.target = "call_function", torch.split
    repair.node.args, repair.node.kwargs = (repair.node.args[0], sizes, dim), {}
    return True


# -- positions ------------------------------------------------------------------------------


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
    return _move(kept, np.arange(start, stop, step))


def _getitem(repair: Repair) -> bool:
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
        return item if value == slice(None) else _moved_slice(kept, size, value)
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


def _index(repair: Repair) -> bool:
    """aten.index: a list with a tensor or None for each dim."""
    given: list[Any] = list(repair.argument(1, "indices"))
    moved = [
        _moved_index(repair, item, dim) if item is not None and repair.is_pruned(dim) else item
        for dim, item in enumerate(given)
    ]
    return repair.set(1, ("indices",), moved) if moved != given else False


def _index_select(repair: Repair) -> bool:
    dim = repair.dim(1)
    if not repair.is_pruned(dim):
        return False
    return repair.set(2, ("index",), _moved_index(repair, repair.argument(2, "index"), dim))


def _slice(repair: Repair) -> bool:
    """aten.slice(x, dim, start, end, step)."""
    dim = repair.dim(1)
    if not repair.is_pruned(dim):
        return False
    defaults = (0, None, None, 1)
    _, start, stop, step = (
        repair.original(repair.argument(i + 1, default=d)) for i, d in enumerate(defaults)
    )
    moved = _moved_slice(repair.kept(dim), repair.operand.shape[dim], slice(start, stop, step))
    return _replace_by_slice(repair, dim, moved)


def _narrow(repair: Repair) -> bool:
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


def _select(repair: Repair) -> bool:
    dim = repair.dim(1)
    if not repair.is_pruned(dim):
        return False
    index = int(repair.original(repair.argument(2, "index"))) % repair.operand.shape[dim]
    return repair.set(2, ("index",), _move(repair.kept(dim), np.array([index]))[0])


def _roll(repair: Repair) -> bool:
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


def _pad(repair: Repair) -> bool:
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


ALWAYS: dict[str, Change] = {
    "getitem": _getitem,
    "setitem": _getitem,
    "index": _index,
    "_unsafe_index": _index,
    "index_select": _index_select,
    "slice": _slice,
    "slice_copy": _slice,
    "narrow": _narrow,
    "narrow_copy": _narrow,
    "select": _select,
    "select_copy": _select,
    "roll": _roll,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "conv1d": _conv_groups(6),
    "conv2d": _conv_groups(6),
    "conv3d": _conv_groups(6),
    "conv_transpose1d": _conv_groups(6, transposed=True),
    "conv_transpose2d": _conv_groups(6, transposed=True),
    "conv_transpose3d": _conv_groups(6, transposed=True),
    "convolution": _conv_groups(8),
    "group_norm": _norm_groups(1),
    "native_group_norm": _native_group_norm,
    "scaled_dot_product_attention": _attention_scale,
}
"""Operators that name positions or widths: repaired wherever an axis of theirs is pruned."""

ON_MISMATCH: dict[str, Change] = {
    "view": _sizes(1),
    "_unsafe_view": _sizes(1),
    "reshape": _sizes(1),
    "expand": _sizes(1),
    "broadcast_to": _sizes(1),
    "unflatten": _unflatten,
    "new_zeros": _sizes(1),
    "new_ones": _sizes(1),
    "new_empty": _sizes(1),
    "new_full": _sizes(1),
    "zeros": _sizes(0),
    "ones": _sizes(0),
    "empty": _sizes(0),
    "full": _sizes(0),
    "repeat": _repeat,
    "tile": _repeat,
    "layer_norm": _normalized_shape,
    "native_layer_norm": _normalized_shape,
    "rms_norm": _normalized_shape,
    "squeeze": _squeeze,
    "chunk": _pieces,
    "split": _pieces,
    "split_with_sizes": _pieces,
    "tensor_split": _pieces,
}
"""Operators that name sizes: repaired where they fail or come out wrong."""
