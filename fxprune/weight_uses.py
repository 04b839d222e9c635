"""What operators do with weights: which dims they sum over, and which batch norm reads what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch

from fxprune.rules.normalization import BATCH_NORMS

if TYPE_CHECKING:
    from torch._ops import OpOverload

    from fxprune.labels import Axis
    from fxprune.rules import Call, Rule

aten = torch.ops.aten
NameOf: TypeAlias = Callable[[torch.Tensor], "str | None"]
"""The name of the stored tensor that a tensor is, or is computed of; None for other values."""
PRODUCTS: dict[OpOverload, tuple[str, str, int, str | None]] = {
    aten.linear.default: ("input", "weight", 0, "bias"),
    aten.addmm.default: ("mat1", "mat2", 1, "self"),
    aten.mm.default: ("self", "mat2", 1, None),
    aten.bmm.default: ("self", "mat2", 2, None),
    aten.baddbmm.default: ("batch1", "batch2", 2, "self"),
    aten.convolution.default: ("input", "weight", 0, "bias"),
}
"""Of each product: the operand that is a value, the one that is a weight, the dim of the weight
that makes the channels of the outcome, and the operand that is added."""
_COMPUTED = "_fxprune_computed"
_MADE_BY = "_fxprune_made_by"
_UNSAFE_VIEW = aten._unsafe_view.default


@dataclass(frozen=True)
class WeightUse:
    """A stored tensor, or a view of it, that an operator takes beside a value.

    Attributes:
        name: of the stored tensor.
        size: of the view.
        stride: of the view, in elements.
        summed: the dim of the view that a product sums over; None for other uses.
        rows: the dim that makes the channels of the outcome of a product.
        bias: the name of what the product adds to these, or nothing.
        node: the node of the graph that takes it.
        axis: that of the summed dim.
    """

    name: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    node: str
    summed: int | None = None
    rows: int | None = None
    bias: str = ""
    axis: Axis | None = field(default=None, repr=False, compare=False)

    def dim_of(self, stored: torch.Tensor, dim: int) -> int | None:
        """The dim of the stored tensor that a dim of the view runs along; None if there is none."""
        along = [d for d in range(stored.dim()) if stored.stride(d) == self.stride[dim]]
        along = [d for d in along if stored.shape[d] >= self.size[dim] > 1]
        return along[0] if len(along) == 1 else None

    def unclear(self, stored: torch.Tensor) -> set[int]:
        """The dims of the stored tensor that the summed dim may run along, if it is not known.

        A dim that another dim of the view runs along from end to end is none of them.
        """
        if self.summed is None or self.dim_of(stored, self.summed) is not None:
            return set()
        step = self.stride[self.summed]
        single = any(size == 1 and stored.stride(d) == step for d, size in enumerate(stored.shape))
        if self.size[self.summed] == 1 and single:
            return set()
        along = {self.dim_of(stored, dim): size for dim, size in enumerate(self.size)}
        return {d for d in range(stored.dim()) if along.get(d) != stored.shape[d]}


@dataclass(frozen=True)
class NormUse:
    """A batch norm by running statistics.

    Attributes:
        weight: the name of its scale, or nothing.
        bias: that of its shift, or nothing.
        mean: that of its running mean.
        variance: that of its running variance.
        eps: what it adds to the variance.
        of: the number of the product whose outcome it reads, or None.
    """

    weight: str
    bias: str
    mean: str
    variance: str
    eps: float
    of: int | None


@dataclass(frozen=True)
class Crossing:
    """An axis that an operator looks across, other than by a product with a stored weight.

    Attributes:
        axis: of a value or a weight.
        why: what looks, in words.
        weight: the name of a stored tensor that is, or is computed to be, the other operand.
        node: the node of the graph.
        is_norm: whether it is a norm, or a softmax.
    """

    axis: Axis
    why: str
    weight: str
    node: str
    is_norm: bool = False


@dataclass
class WeightUses:
    """What one interpretation of a model shows.

    Attributes:
        uses: of stored tensors, in order.
        norms: the batch norms.
        crossings: what else looks across axes.
        taken: how many operators read the outcome of the product of a number.
    """

    uses: list[WeightUse] = field(default_factory=list)
    norms: list[NormUse] = field(default_factory=list)
    crossings: list[Crossing] = field(default_factory=list)
    taken: Counter[int] = field(default_factory=Counter)

    def note(self, call: Call, rule: Rule | None, name_of: NameOf) -> None:
        """Note what an operator does, which has run."""
        operands = call.tensors()
        names = [name_of(tensor) for tensor in operands]
        if not names or rule is None:
            return
        if None not in names:
            self._note_computed(call)
            self._note_crossings(call, rule, "", "")
            return
        for tensor in operands:
            if (number := getattr(tensor, _MADE_BY, None)) is not None:
                self.taken[number] += 1
        if call.op._overloadpacket in BATCH_NORMS:
            self._note_norm(call, name_of)
        x = self._note_product(call, name_of) if call.op in PRODUCTS else ""
        noted = call.arg(PRODUCTS[call.op][1]) if x else None
        for tensor, name in zip(operands, names, strict=True):
            if name is not None and tensor is not noted:
                self.uses.append(
                    WeightUse(name, tuple(tensor.shape), tensor.stride(), _node_of(call))
                )
        weight = next(filter(None, names), "")
        if call.op in PRODUCTS:
            value, other, *_ = PRODUCTS[call.op]
            weight = name_of(call.arg(other)) or name_of(call.arg(value)) or ""
        self._note_crossings(call, rule, x, weight)

    def _note_computed(self, call: Call) -> None:
        is_view = call.op.is_view or call.op is _UNSAFE_VIEW
        if not is_view or any(hasattr(tensor, _COMPUTED) for tensor in call.tensors()):
            for out in call.outputs():
                setattr(out, _COMPUTED, True)

    def _note_crossings(self, call: Call, rule: Rule, spared: str, weight: str) -> None:
        """Note the axes that are looked across, but for those of the operand `spared`."""
        summing = "sums over channels in another way than linear layers do"
        if call.op in PRODUCTS and hasattr(call.arg(PRODUCTS[call.op][1]), _COMPUTED):
            summing = "reads channels with a weight that is computed of others"
        over = "goes over channels"
        found = [(name, dim, summing) for name, dim in rule.sums(call) if name != spared]
        found += [(name, dim, over) for name, dim in rule.normalizes(call)]
        for name, dim, why in found:
            if call.axes(name):
                axis, told = call.axes(name)[dim], f"{call.name} {why}"
                self.crossings.append(Crossing(axis, told, weight, _node_of(call), why == over))

    def _note_norm(self, call: Call, name_of: NameOf) -> None:
        given = {
            key: call.arg(key) if call.has(key) else None
            for key in ("weight", "bias", "running_mean", "running_var")
        }
        tensors = [tensor for tensor in given.values() if tensor is not None]
        stored = all(name_of(t) and not hasattr(t, _COMPUTED) for t in tensors)
        if given["running_mean"] is None or given["running_var"] is None or not stored:
            return
        eps = float(call.arg("eps" if call.has("eps") else "epsilon"))
        weight, bias, mean, variance = (
            "" if t is None else str(name_of(t)) for t in given.values()
        )
        of = getattr(call.arg("input"), _MADE_BY, None)
        self.norms.append(NormUse(weight, bias, mean, variance, eps, of))

    def _note_product(self, call: Call, name_of: NameOf) -> str:
        """Note a product of a value and a weight; its operand that sums as linear layers do."""
        x, weight, rows, bias = PRODUCTS[call.op]
        tensor, name = call.arg(weight), name_of(call.arg(weight))
        if name is None or name_of(call.arg(x)) is not None or hasattr(tensor, _COMPUTED):
            return ""
        is_separate = False  # each group makes channels of its own, of one channel
        if call.op is aten.convolution.default:
            groups = call.arg("groups")
            is_separate = 1 < groups == call.arg(x).shape[1]
            if call.arg("transposed") and groups > 1 and not is_separate:
                return ""
            rows = int(call.arg("transposed") and not is_separate)
        summed = None if is_separate else rows - 1 if rows else 1
        added = None if bias is None else call.arg(bias)
        is_plain = all(not call.has(key) or call.arg(key) == 1 for key in ("alpha", "beta"))
        own = "" if added is None or hasattr(added, _COMPUTED) else name_of(added) or ""
        if added is None or (own and is_plain):
            for out in call.outputs():
                setattr(out, _MADE_BY, len(self.uses))
        size, stride = tuple(tensor.shape), tensor.stride()
        axis = None if summed is None else call.axes(weight)[summed]
        self.uses.append(WeightUse(name, size, stride, _node_of(call), summed, rows, own, axis))
        return x


def _node_of(call: Call) -> str:
    """The node of the graph that runs."""
    node = getattr(call.labels.place, "node", None)
    return str(node.name) if node is not None else ""
