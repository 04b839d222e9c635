"""Statistics over the original's width: `norm="exact"`.

Operators that look across a pruned axis are rewritten so that they compute what the original does
with zeros at the removed positions. Nearly all of them treat positions alike, so the zeros may
stand anywhere: they are padded to the end (of each group, for a group norm), and the outcome is
cut. A local response norm averages over neighbours, so zeros go to their places.
A mean needs no zeros, but a factor; a root mean square norm takes it into its eps.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from fxprune.passes.repair import Repair, operation

if TYPE_CHECKING:
    from numpy.typing import NDArray


Exact: TypeAlias = Callable[[Repair], None]
_X = ("input", "self", "x")


def compensated(repair: Repair) -> bool:
    """Rewrite a node that looks across a pruned axis; False if its operator is none of those known.

    The node itself becomes the last operator of what takes its place, so that its name stays.
    """
    exact = _EXACT.get(operation(repair.node, repair.graph_module))
    if exact is None or _has_hooks(repair):
        return False
    exact(repair)
    return True


def _has_hooks(repair: Repair) -> bool:
    """Whether the node calls a module that does more than its forward."""
    if repair.node.op != "call_module":
        return False
    module = repair.graph_module.get_submodule(str(repair.node.target))
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _call(repair: Repair, function: Any, *args: Any) -> fx.Node:
    """A new operator in front of the node."""
    node = repair.node
    with node.graph.inserting_before(node):
        made = node.graph.call_function(function, args)
    made.meta = {k: v for k, v in node.meta.items() if k in ("stack_trace", "nn_module_stack")}
    return made


def _become(repair: Repair, function: Any, *args: Any) -> None:
    """Turn the node into the last operator."""
    repair.node.op, repair.node.target = "call_function", function
    repair.node.args, repair.node.kwargs = args, {}


def _setting(repair: Repair, position: int, *names: str, default: Any = None) -> Any:
    """What the node is told: by an attribute of the module that it calls, or by an argument.

    A parameter of the module is read by its name. What the graph reads is the original's value.
    """
    node = repair.node
    if node.op != "call_module":
        given = repair.argument(position, *names, default=default)
        known = repair.layout.value(given.name) if isinstance(given, fx.Node) else given
        return known if isinstance(known, (int, tuple, list)) else given
    module = repair.graph_module.get_submodule(str(node.target))
    value = getattr(module, names[0])
    if not isinstance(value, torch.Tensor):
        return value
    with node.graph.inserting_before(node):
        return node.graph.get_attr(f"{node.target}.{names[0]}")


def _x(repair: Repair) -> fx.Node:
    found = repair.argument(0, *_X)
    assert isinstance(found, fx.Node)
    return found


def _losses(repair: Repair, dims: Iterable[int]) -> dict[int, int]:
    shape, now = repair.operand.shape, repair.layout.shape(repair.operand)
    return {dim: shape[dim] - now[dim] for dim in dims if shape[dim] != now[dim]}


def _lost(repair: Repair, dims: Iterable[int]) -> dict[int, int]:
    """How many positions the operand loses along each of some dims, one of them at least."""
    lost = _losses(repair, dims)
    if not lost:
        raise repair.fail("it looks across a pruned axis that is not one of its operand")
    return lost


def _padded(repair: Repair, value: Any, rank: int, lost: Mapping[int, int]) -> Any:
    """The operand, or a weight over its last dims, with zeros for the positions that it lost."""
    if value is None:
        return None
    spec = [n for dim in range(rank - 1, min(lost) - 1, -1) for n in (0, lost.get(dim, 0))]
    return _call(repair, F.pad, value, spec)


def _cut(repair: Repair, value: Any, lost: Mapping[int, int]) -> tuple[Any, ...]:
    """The operator that takes the padding away again, from the last dim that has some."""
    shape = repair.operand.shape
    *others, last = sorted(lost)
    for dim in others:
        value = _call(repair, torch.narrow, value, dim, 0, shape[dim] - lost[dim])
    return torch.narrow, value, last, 0, shape[last] - lost[last]


def _reduced_dims(repair: Repair, position: int = 1) -> list[int]:
    rank = len(repair.operand.shape)
    dims = _setting(repair, position, "dim", "axis")
    if dims is None or isinstance(dims, bool) or dims in ([], ()):  # `x.var(False)` is of all
        return list(range(rank))
    return [int(d) % rank for d in ([dims] if isinstance(dims, int) else dims)]


def _mean(repair: Repair) -> None:
    """The mean over the kept positions times kept / all."""
    lost = _lost(repair, _reduced_dims(repair))
    shape = repair.operand.shape
    share = math.prod((shape[dim] - n) / shape[dim] for dim, n in lost.items())
    node = repair.node
    _become(repair, torch.mul, _copy(repair, node.args, node.kwargs), share)


def _copy(repair: Repair, args: Sequence[Any], kwargs: Mapping[str, Any]) -> fx.Node:
    """The node's own operator on other arguments, in front of it."""
    node = repair.node
    with node.graph.inserting_before(node):
        made = node.graph.create_node(node.op, node.target, tuple(args), dict(kwargs))
    made.meta = dict(node.meta)
    return made


def _reduction(repair: Repair, position: int = 1) -> None:
    """Any other reduction, with zeros."""
    _given_zeros(repair, _reduced_dims(repair, position))


def _pool(repair: Repair) -> None:
    """A pool of all places, with zeros."""
    _given_zeros(repair, _places(repair))


def _given_zeros(repair: Repair, dims: Iterable[int]) -> None:
    """Let the operator see zeros, of which it leaves no trace in its outcome's shape."""
    x, lost = _x(repair), _lost(repair, dims)
    repair.node.replace_input_with(x, _padded(repair, x, len(repair.operand.shape), lost))


def _places(repair: Repair) -> range:
    """The dims after the channels: as many as the operator's name says, or all but two."""
    rank, name = len(repair.operand.shape), operation(repair.node, repair.graph_module)
    count = int(name[-2]) if name[-2].isdigit() else rank - 2
    return range(rank - count, rank)


def _softmax(default: int | None = None) -> Exact:
    """A softmax with zeros, whose outcomes for these are cut off."""

    def exact(repair: Repair) -> None:
        rank = len(repair.operand.shape)
        dim = _setting(repair, 1, "dim", "axis") if default is None else default
        if dim is None:  # as torch chooses it
            dim = 0 if rank in (0, 1, 3) else 1
        _cut_of_zeros(repair, [int(dim) % rank])

    return exact


def _instance_norm(repair: Repair) -> None:
    """A norm of each channel over all places."""
    _cut_of_zeros(repair, _places(repair))


def _cut_of_zeros(repair: Repair, dims: Iterable[int]) -> None:
    """Let the operator see zeros, and cut off what it makes of them."""
    node, x, lost = repair.node, _x(repair), _lost(repair, dims)
    padded = _padded(repair, x, len(repair.operand.shape), lost)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: padded if n is x else n)
    _become(repair, *_cut(repair, _copy(repair, args, kwargs), lost))


def _affine(repair: Repair, first: int = 2) -> tuple[Any, Any]:
    """The weight and the bias of a norm; each may be None."""
    return _setting(repair, first, "weight"), _setting(repair, first + 1, "bias")


def _layer_norm(repair: Repair) -> None:
    weight, bias = _affine(repair)
    whole = _Whole(repair)
    weight, bias = whole.state(weight), whole.state(bias)
    eps = _setting(repair, 4, "eps", default=1e-5)
    norm = _call(repair, F.layer_norm, whole.x, whole.shape, weight, bias, eps)
    _become(repair, *whole.cut(norm))


class _Whole:
    """The operand of a norm over trailing dims, in the original's sizes.

    Attributes:
        x: the operand with zeros at the end.
        shape: the sizes that are normalized over.
    """

    def __init__(self, repair: Repair) -> None:
        self.repair, self.rank = repair, len(repair.operand.shape)
        now = _normalized_shape(repair)
        first = self.rank - len(now)
        self.lost = _lost(repair, range(first, self.rank))
        places = enumerate(now, start=first)
        self.shape = [n + self.lost[dim] if dim in self.lost else n for dim, n in places]
        self.x = _padded(repair, _x(repair), self.rank, self.lost)

    def state(self, weight: Any) -> Any:
        """A weight that spans these sizes."""
        return _padded(self.repair, weight, self.rank, self.lost)

    def cut(self, value: Any) -> tuple[Any, ...]:
        """The operator that takes the padding away again, and its arguments."""
        return _cut(self.repair, value, self.lost)


def _normalized_shape(repair: Repair) -> list[Any]:
    """The sizes that a norm runs over, as they are after pruning; computed ones stay computed."""
    listed = _setting(repair, 1, "normalized_shape")
    listed = [listed] if isinstance(listed, int) else listed
    before, now = repair.operand.shape, repair.layout.shape(repair.operand)
    sizes = zip(listed, before[-len(listed) :], now[-len(listed) :], strict=True)
    return [n if isinstance(n, fx.Node) and old == new else new for n, old, new in sizes]


def _native_layer_norm(repair: Repair) -> None:
    """As a layer norm; mean and reciprocal deviation are outcomes, too."""
    weight, bias = _affine(repair)
    whole = _Whole(repair)
    weight, bias = whole.state(weight), whole.state(bias)
    native, eps = torch.ops.aten.native_layer_norm.default, _setting(repair, 4, "eps")
    saved = _call(repair, native, whole.x, whole.shape, weight, bias, eps)
    out = _call(repair, *whole.cut(_item(repair, saved, 0)))
    _become(repair, tuple, (out, *(_item(repair, saved, k) for k in (1, 2))))


def _rms_norm(repair: Repair) -> None:
    """Compute x w / sqrt(S / N + eps), where S sums the squares of the n kept of N positions.

    That is sqrt(N / n) times a norm over the kept ones, whose eps is N / n times as large. The
    factor stays beside the weight, whose gradient is the original's then. An eps that torch takes
    from the type of the input cannot be scaled; there zeros are padded.
    """
    weight, eps = _setting(repair, 2, "weight"), _setting(repair, 3, "eps")
    if eps is None:
        whole = _Whole(repair)
        norm = _call(repair, F.rms_norm, whole.x, whole.shape, whole.state(weight))
        _become(repair, *whole.cut(norm))
        return
    now = _normalized_shape(repair)
    before, after = repair.operand.shape, repair.layout.shape(repair.operand)
    ratio = math.prod(before[-len(now) :]) / math.prod(after[-len(now) :])
    norm = _call(repair, F.rms_norm, _x(repair), now, weight, eps * ratio)
    _become(repair, torch.mul, norm, math.sqrt(ratio))


def _group_norm(repair: Repair) -> None:
    places = _lost_places(repair)
    if places and not _losses(repair, [1]):
        _cut_of_zeros(repair, places)
        return
    groups = _setting(repair, 1, "num_groups")
    x, weight, bias = _whole_groups(repair, groups, *_affine(repair))
    eps = _setting(repair, 4, "eps", default=1e-5)
    norm = _call(repair, F.group_norm, x, groups, weight, bias, eps)
    _become(repair, *_kept_of_groups(repair, norm, groups))


def _whole_groups(repair: Repair, groups: int, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    """Operand, weight and bias with zeros at the end of each group, which all lose as many."""
    if _lost_places(repair):
        raise repair.fail("it looks across channels and across places that are pruned")
    total, lost = repair.operand.shape[1], _lost(repair, [1])[1]

    def whole(value: Any, dim: int, after: int) -> Any:
        if value is None:
            return None
        apart = _call(repair, torch.unflatten, value, dim, (groups, (total - lost) // groups))
        padded = _call(repair, F.pad, apart, [0, 0] * after + [0, lost // groups])
        return _call(repair, torch.flatten, padded, dim, dim + 1)

    places = len(repair.operand.shape) - 2
    return whole(_x(repair), 1, places), whole(weight, 0, 0), whole(bias, 0, 0)


def _lost_places(repair: Repair) -> dict[int, int]:
    """How many positions the operand of a group norm loses along each dim after the channels."""
    return _losses(repair, range(2, len(repair.operand.shape)))


def _kept_of_groups(repair: Repair, value: fx.Node, groups: int) -> tuple[Any, ...]:
    """The operator that takes the zeros out again, and its arguments."""
    total, lost = repair.operand.shape[1], _lost(repair, [1])[1]
    apart = _call(repair, torch.unflatten, value, 1, (groups, total // groups))
    kept = _call(repair, torch.narrow, apart, 2, 0, (total - lost) // groups)
    return torch.flatten, kept, 1, 2


def _native_group_norm(repair: Repair) -> None:
    """As a group norm; means and reciprocal deviations are outcomes, too."""
    batch, inner = repair.argument(3, "N"), repair.argument(5, "HxW")
    groups, eps = repair.argument(6, "group"), repair.argument(7, "eps")
    x, weight, bias = _whole_groups(repair, groups, *_affine(repair, first=1))
    native, size = torch.ops.aten.native_group_norm.default, repair.operand.shape[1]
    saved = _call(repair, native, x, weight, bias, batch, size, inner, groups, eps)
    out = _call(repair, *_kept_of_groups(repair, _item(repair, saved, 0), groups))
    _become(repair, tuple, (out, *(_item(repair, saved, k) for k in (1, 2))))


def _item(repair: Repair, value: fx.Node, number: int) -> fx.Node:
    return _call(repair, operator.getitem, value, number)


def _at_places(repair: Repair) -> None:
    """Operators whose neighbours count: zeros stand where positions were, and are taken out again.

    A zero is padded to the end of each axis, and read wherever a position is gone.
    """
    node, traced = repair.node, repair.operand
    x: Any = _x(repair)
    whole = x
    for dim, axis in enumerate(traced.axes):
        kept = repair.layout.kept(axis)
        if kept is not None:
            order = np.full(axis.size, len(kept))
            order[kept] = np.arange(len(kept))
            whole = _padded(repair, whole, len(traced.shape), {dim: 1})
            whole = _call(repair, operator.getitem, whole, _index(dim, order))
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: whole if n is x else n)
    value: Any = _copy(repair, args, kwargs)
    found = [(dim, repair.layout.kept(a)) for dim, a in enumerate(repair.outputs[0].axes)]
    *others, last = [(dim, kept) for dim, kept in found if kept is not None]
    for dim, kept in others:
        value = _call(repair, operator.getitem, value, _index(dim, kept))
    _become(repair, operator.getitem, value, _index(*last))


def _index(dim: int, positions: NDArray[np.int64]) -> tuple[Any, ...]:
    return (*[slice(None)] * dim, positions.tolist())


def _norm(position: int) -> Exact:
    """A vector norm does not see zeros, unless its order is zero or negative."""

    def exact(repair: Repair) -> None:
        order = repair.argument(1, "p", "ord", default=2)
        if isinstance(order, (int, float)) and order <= 0:
            _reduction(repair, position)

    return exact


def _indifferent(repair: Repair) -> None:
    """Zeros change nothing."""


_EXACT: dict[str, Exact] = {
    "mean": _mean,
    **dict.fromkeys(("amax", "amin", "max", "min", "aminmax", "logsumexp", "prod"), _reduction),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean", "all"), _reduction),
    **dict.fromkeys(("norm", "linalg_vector_norm", "vector_norm", "linalg_norm"), _norm(2)),
    **dict.fromkeys(("any", "normalize", "cosine_similarity", "CosineSimilarity"), _indifferent),
    **dict.fromkeys(("pairwise_distance", "PairwiseDistance"), _indifferent),
    **dict.fromkeys(("_weight_norm", "_weight_norm_interface"), _indifferent),
    **dict.fromkeys(("softmax", "log_softmax", "_softmax", "_log_softmax"), _softmax()),
    **dict.fromkeys(("_safe_softmax", "softmin"), _softmax()),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Softmin"), _softmax()),
    "Softmax2d": _softmax(-3),
    **dict.fromkeys(("LocalResponseNorm", "local_response_norm"), _at_places),
    **dict.fromkeys(("AvgPool1d", "AvgPool2d", "AvgPool3d"), _at_places),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _at_places),
    **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"), _instance_norm),
    "instance_norm": _instance_norm,
    **dict.fromkeys(("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"), _pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), _pool),
    "layer_norm": _layer_norm,
    "native_layer_norm": _native_layer_norm,
    "LayerNorm": _layer_norm,
    "rms_norm": _rms_norm,
    "RMSNorm": _rms_norm,
    "group_norm": _group_norm,
    "native_group_norm": _native_group_norm,
    "GroupNorm": _group_norm,
}
"""What looks across an axis, by plain name (see `repairs.py`)."""
