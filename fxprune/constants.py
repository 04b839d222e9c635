"""Constants of removed channels: what goes into which bias, for `constants="fold"`.

The original runs once in eval mode with its inputs unknown. NaN stands for "not known", for every
operator that is let through hands NaN on; what any other makes of it is not known either. A removed
channel without inputs (see `FoldedMode`) emits its bias, and what is still a number where a product
reads it is a constant: its share of the outcome goes into the product's bias, if it is the same
everywhere.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from fxprune.errors import Location, RewriteError
from fxprune.folding import FoldedMode, Product
from fxprune.input_sets import other_sizes
from fxprune.module_trees import eval_clone, named_state
from fxprune.precision import Precision
from fxprune.reference import PARTNERS, is_state, put_state, relabel
from fxprune.rules import axes_of, locate, put_value, value_of, written
from fxprune.stepping import OriginalFailsError, Stepper
from fxprune.traces import STATE_NAME
from fxprune.values import mapped, memory, tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fxprune.comparison import Claim
    from fxprune.labels import Axis
    from fxprune.rules import Call, Rule

aten = torch.ops.aten
_SAME = 1e-10
"""How far a constant may differ from place to place, relative to the largest terms of its sum."""
_SWALLOWS = frozenset(
    {
        *("sign", "sgn", "nan_to_num", "fmax", "fmin", "heaviside", "where", "masked_fill"),
        *("bernoulli", "normal", "uniform", "exponential", "geometric", "cauchy", "log_normal"),
        *("random", "isnan", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like"),
        *("randn_like", "zero", "fill", "threshold", "hardshrink", "softshrink", "copysign"),
    }
)
"""Operators that may make a number of NaN (some of them rightly)."""
_RIGHTLY = frozenset({"zeros_like", "ones_like", "full_like", "zero", "fill", "where"})
"""Those whose number does not depend on what the NaN stands for."""
_HANDS_ON = frozenset(
    {
        *("cat", "stack", "constant_pad_nd", "index", "index_select", "roll", "flip", "repeat"),
        *("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
        *("_native_batch_norm_legit", "_batch_norm_no_update", "pixel_shuffle", "clone", "copy"),
        *(f"{kind}_pad{rank}d" for kind in ("replication", "reflection") for rank in (1, 2, 3)),
        *("mean", "sum", "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d"),
        *("avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "native_dropout"),
        *("upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "native_layer_norm"),
        *(
            "native_group_norm",
            "_softmax",
            "_log_softmax",
            "_prelu_kernel",
            "_to_copy",
            "glu",
            "im2col",
        ),
        *("hardswish", "hardsigmoid", "hardtanh", "softplus", "log_sigmoid_forward", "leaky_relu"),
        *("elu", "silu", "mish", "gelu", "relu", "rrelu_with_noise", "celu", "selu"),
        *("channel_shuffle", "native_channel_shuffle", "pixel_unshuffle", "unfold", "_unsafe_view"),
    }
)
"""Operators that are no views and not pointwise, whose outcome is NaN where an operand is."""


_UNKNOWN = "the channel carries what depends on the inputs"
_VARIED = "the constant differs from place to place, as zero padding makes it"
_PADDED = "the operator pads with zeros, where the constant is missing"


@dataclass
class _Reader:
    """What a bias is to take up, and where it is added."""

    name: str
    shares: list[torch.Tensor] = field(default_factory=list)
    channels: tuple[str, ...] = ()
    where: Location | str = ""
    uses: int = 0

    def refusal(self, why: str) -> RewriteError:
        """That the bias cannot take it up."""
        return _Refusal(self.channels, self.where, why).error(0)


@dataclass(frozen=True)
class _Refusal:
    """Why constants cannot be folded at a place."""

    channels: tuple[str, ...]
    where: Location | str
    why: str

    def error(self, more: int) -> RewriteError:
        """As an error; `more` tells how many others there are."""
        others = f" (and {more} more)" if more else ""
        return RewriteError(
            f"constants of removed channels cannot be folded: {', '.join(self.channels)}{others}",
            where=self.where,
            why=self.why,
            hint='take these channels from the plan, or pass constants="drop"',
        )


class ConstantMode(FoldedMode):
    """Runs the original with unknown inputs, and finds what its products take of constants."""

    def __init__(self, claim: Claim, labels: Any, precision: Precision) -> None:
        def removed(axis: Axis) -> Any:
            return claim.layout.removed_positions(axis, labels)

        super().__init__(labels, removed, precision.widening(), claim.meaning.norm)
        self.claim = claim
        self.precision = precision
        self.node: fx.Node | None = None
        self.readers: dict[str, _Reader] = {}
        self.refusals: list[_Refusal] = []
        self.touched: dict[str, int] = {}
        self.unknown: list[torch.Tensor] = []

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator on what is known."""
        for tensor in call.tensors():
            name = getattr(tensor, STATE_NAME, None)
            if name is not None:
                self.touched[name] = self.touched.get(name, 0) + 1
        product = Product.of(call)
        if product is not None:
            out = self.product(call, rule, product)
        else:
            self.refuse_others(call, rule)
            out = super().run(call, rule)
        return self.forget(call, rule, out)

    def forget(self, call: Call, rule: Rule, out: Any) -> Any:
        """Make NaN of all that may depend on what is not known."""
        operands = call.tensors()
        changed = any(is_state(t) for t in written(call.op, call.args, call.kwargs))
        blind = changed or any(self.is_unknown(t) for t in operands)
        has_nan = any(_is_float(t) and bool(t.isnan().any()) for t in operands)
        if not (blind or has_nan):
            return out
        hides = blind or (Product.of(call) is None and not _hands_on(call))
        for tensor in tensors(out):
            if not _is_float(tensor):
                self.unknown.append(tensor)
                put_value(tensor, None)
            elif hides:
                tensor.fill_(torch.nan)
        return out

    def is_unknown(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor of integers depends on the inputs, be it by what was written into it."""
        if _is_float(tensor):
            return False
        return value_of(tensor) is None or any(memory(tensor) == memory(t) for t in self.unknown)

    # -- products ---------------------------------------------------------------------------

    def product(self, call: Call, rule: Rule, product: Product) -> Any:
        """A product is known where all that counts of the value is; zeros of a weight do not."""
        masked = self.masked(call, rule)
        x, weight = masked.arg(product.x), masked.arg(product.weight)
        unknown = x.isnan()
        self.read(call, rule, product, x, weight)
        out = _run(masked, {product.x: x.nan_to_num(nan=0.0)})
        if bool(unknown.any()):
            counts = {product.x: unknown.to(x.dtype), product.weight: (weight != 0).to(x.dtype)}
            out.masked_fill_(_run(masked, counts, product.bias) > 0.5, torch.nan)
        return out

    def read(self, call: Call, rule: Rule, product: Product, x: Any, weight: Any) -> None:
        """Note what a product takes of removed channels."""
        reader = self.reader(call, product)
        reader.uses += 1
        gone = next(
            (
                (dim, g)
                for name, dim in rule.sums(call)
                if name == product.x and (g := self.gone(call, name, dim)) is not None
            ),
            None,
        )
        out_axis = axes_of(call.arg(product.weight), self.labels)[product.rows]
        if gone is None or not product.mixes:
            reader.shares.append(x.new_zeros(out_axis.size))
            return
        dim, index = gone[0], torch.from_numpy(np.flatnonzero(gone[1]))
        taken = x.index_select(dim, index).nan_to_num(nan=0.0)
        unknown = index[_flat(x, dim, index).isnan().any(1)]
        alone = torch.zeros_like(x).index_copy(dim, index, taken)
        if len(unknown):
            blind = torch.zeros_like(x).index_fill(dim, unknown, 1.0)
            reach = _run(call, {product.x: blind, product.weight: weight.abs()}, product.bias)
            if bool(_by_channel(reach, call)[torch.from_numpy(~self.removed(out_axis))].any()):
                self.refuse(call, product.x, dim, unknown, _UNKNOWN)
                return
        added = _run(call, {product.x: alone, product.weight: weight}, product.bias)
        amounts = _by_channel(added, call)  # of each channel of the outcome, position by position
        reader.shares.append(amounts[:, 0].clone())
        values = _flat(alone, dim, index)
        nonzero = index[(values != 0).any(1)]
        told = self.channels(call, product.x, dim, nonzero)
        reader.channels = tuple(dict.fromkeys((*reader.channels, *told)))
        terms = {product.x: alone.abs(), product.weight: weight.abs()}
        largest = _run(call, terms, product.bias).max()
        kept = amounts[torch.from_numpy(~self.removed(out_axis))]
        if bool((kept.max(1).values - kept.min(1).values > _SAME * largest).any()):
            varied = bool((values.max(1).values != values.min(1).values).any())
            self.refuse(call, product.x, dim, nonzero, _VARIED if varied else _PADDED)

    def reader(self, call: Call, product: Product) -> _Reader:
        """The bias that a product adds, or would add if it had one."""
        assert self.node is not None
        bias = call.arg(product.bias) if product.bias is not None else None
        name = getattr(bias, STATE_NAME, None) if bias is not None else None
        module: Any = None
        if self.node.op == "call_module":
            module = self.claim.deps.graph_module.get_submodule(str(self.node.target))
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            name = f"{self.node.target}.bias"
        if name is not None:
            name = self.claim.deps.trace.tied.get(name, name)
        key = name or f"node {self.node.name} {len(self.readers)}"
        return self.readers.setdefault(key, _Reader(name or "", where=locate(self.node)))

    # -- what has no bias -------------------------------------------------------------------

    def refuse_others(self, call: Call, rule: Rule) -> None:
        """A sum over removed channels that is no product with a weight has no bias."""
        across = [
            (name, dim)
            for name, dim in rule.normalizes(call)
            if self.norm == "exact" or is_state(call.arg(name))
        ]
        zero: list[bool] = []
        refused = []
        for name, dim in (*rule.sums(call), *across):
            gone = self.gone(call, name, dim)
            if gone is None:
                continue
            index, nonzero = _nonzero(call.arg(name), dim, gone)
            zero.append(not bool(nonzero.any()))
            refused.append((name, dim, index[nonzero]))
        partner = _partner_is_zero(call, self.gone) if not all(zero) else True
        if all(zero) or partner:
            return
        for name, dim, index in refused:
            if len(index):
                what = f"{call.name} reads the channel, and adds no bias that could take it up"
                self.refuse(call, name, dim, index, what)

    def refuse(self, call: Call, name: str, dim: int, index: torch.Tensor, why: str) -> None:
        """Note that constants at positions of an operand cannot be folded."""
        assert self.node is not None
        channels = self.channels(call, name, dim, index)
        self.refusals.append(_Refusal(channels, locate(self.node, call.op), why))

    def channels(self, call: Call, name: str, dim: int, index: torch.Tensor) -> tuple[str, ...]:
        """Positions of an operand as channels of groups."""
        axis = call.axes(name)[dim]
        return _channels(self.claim, self.labels.leaves(axis), index.tolist())


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _hands_on(call: Call) -> bool:
    """Whether an operator's outcome is NaN wherever it depends on a NaN."""
    name = call.name
    if name in _SWALLOWS:
        return name in _RIGHTLY
    is_view = any(
        r.alias_info is not None and not r.alias_info.is_write for r in call.op._schema.returns
    )
    return is_view or name in _HANDS_ON or torch.Tag.pointwise in call.op.tags


def _run(call: Call, changes: dict[str, Any], bias: str | None = None) -> Any:
    """A product of other operands; without the bias, if its name is given."""
    if bias is not None and call.arg(bias) is not None:
        old = call.arg(bias)
        changes = {**changes, bias: torch.zeros_like(old) if bias == "self" else None}
    args, kwargs = call.replaced(**changes)
    return call.op(*args, **kwargs)


def _by_channel(out: Any, call: Call) -> torch.Tensor:
    """The outcome of a product, a row for each channel."""
    moved = out.movedim(1 if call.op is aten.convolution.default else -1, 0)
    return torch.as_tensor(moved.reshape(len(moved), -1))


def _partner_is_zero(call: Call, gone: Any) -> bool:
    """Whether the other operand of a product is zero at the removed positions."""
    if call.op not in PARTNERS:
        return False
    name, dim = PARTNERS[call.op]
    mask = gone(call, name, dim)
    return mask is not None and not bool(_nonzero(call.arg(name), dim, mask)[1].any())


def _nonzero(tensor: torch.Tensor, dim: int, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The positions of a mask along a dim, and which of them are anything but zero there."""
    index = torch.from_numpy(np.flatnonzero(mask))
    return index, (_flat(tensor, dim, index) != 0).any(1)


def _flat(tensor: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    """What a tensor holds at positions along a dim, a row for each."""
    return tensor.index_select(dim, index).movedim(dim, 0).reshape(len(index), -1)


def _channels(claim: Claim, vectors: Iterable[Any], positions: Sequence[int]) -> tuple[str, ...]:
    """Removed positions of an axis as channels of groups: `conv1 [3, 5]`."""
    found: dict[str, set[int]] = {}
    ids = np.unique([int(vector[p]) for vector in vectors for p in positions]).astype(np.int64)
    for group in claim.deps.groups:
        channels = np.flatnonzero(np.isin(group.ids, ids[claim.layout.is_removed(ids)]))
        if channels.size and group.pinned is None:
            found.setdefault(group.name, set()).update(channels.tolist())
    return tuple(f"{name} {sorted(channels)}" for name, channels in found.items())


# -- from what was found to a model that has it ---------------------------------------------


def fold_constants(claim: Claim, small: nn.Module, values: Sequence[Any]) -> None:
    """Add to the biases of a shrunk model what removed channels would still emit.

    Args:
        claim: the original, what stays, and what that means.
        small: the shrunk model, which is changed: biases, and new ones where there were none. A
            new bias has fewer entries than what the weight beside it has lost.
        values: one for each placeholder; of tensors only shape and dtype matter.

    Raises:
        RewriteError: constants of some channels cannot be folded; names the first ones, and why.
    """
    _refuse_what_is_not_known(claim, values)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        mode = _run_on_unknown(claim, values)
        if mode.refusals:
            raise mode.refusals[0].error(len(mode.refusals) - 1)
        _refuse_sizes(claim, values, mode)
        for reader in mode.readers.values():
            _take_up(claim, small, reader, mode.touched.get(reader.name, 0))


def _refuse_what_is_not_known(claim: Claim, values: Sequence[Any]) -> None:
    """Numbers have no NaN, complex ones no order, and a recording knows one path only."""
    why = ""
    if any(tensor.device.type == "meta" for tensor in claim.deps.state.values()):
        why = "the model has no data (it is on the meta device): load the weights first"
    if claim.deps.decisions:
        why = "forward decides by values, so that what is constant on one path may not be on all"
    elif any(t.is_complex() for t in (*claim.deps.state.values(), *tensors(list(values)))):
        why = "the model computes with complex numbers"
    nodes = [n for n in claim.deps.graph_module.graph.nodes if n.op == "placeholder"]
    for node, value in zip(nodes, values, strict=True):
        is_used = any(user.target is not operator.eq for user in node.users)
        if isinstance(value, (bool, int, float)) and is_used:
            why = f"the graph computes with the number {node.target}, which may be another one"
    if why:
        raise RewriteError("constants cannot be folded", why=why, hint='pass constants="drop"')


def _refuse_sizes(claim: Claim, values: Sequence[Any], mode: ConstantMode) -> None:
    """A constant that is another one for inputs of another size is none."""
    for others in other_sizes(tuple(values)):
        try:
            again = _run_in(claim, others, mode.precision)
        except OriginalFailsError:
            continue
        for key, reader in mode.readers.items():
            shares = again.readers[key].shares if key in again.readers else []
            same = len(shares) == len(reader.shares) and not again.refusals
            pairs = zip(shares, reader.shares, strict=False)
            if not same or not all(torch.allclose(a, b, rtol=_SAME, atol=_SAME) for a, b in pairs):
                why = "the constant is another one for inputs of another size"
                raise reader.refusal(why)


def _run_on_unknown(claim: Claim, values: Sequence[Any]) -> ConstantMode:
    deps = claim.deps
    *others, last = Precision.candidates(deps.state.values(), tensors(list(values)))
    for precision in others:
        try:
            return _run_in(claim, values, precision)
        except OriginalFailsError:
            continue
    return _run_in(claim, values, last)


def _run_in(claim: Claim, values: Sequence[Any], precision: Precision) -> ConstantMode:
    deps = claim.deps
    original = eval_clone(deps.graph_module, precision.cast)
    put_state(named_state(original), deps.trace)
    mode = ConstantMode(claim, deps.trace.labels.copy(), precision)
    inputs = [mapped(_unknown, value) for value in mapped(precision.cast, tuple(values))]
    stepper = Stepper("the original", original, inputs, mode)
    for node in original.graph.nodes:
        mode.node = node
        value = stepper.step(node)
        relabel(value, deps.trace.values.get(node.name), mode.labels)
    return mode


def _unknown(value: torch.Tensor) -> torch.Tensor:
    if _is_float(value):
        return torch.full_like(value, torch.nan)
    value = value.clone()
    put_value(value, None)
    return value


def _take_up(claim: Claim, small: nn.Module, reader: _Reader, touched: int) -> None:
    """Put the share of constants into a bias."""
    if not any(bool(other.any()) for other in reader.shares):
        return
    share = reader.shares[0]
    if not reader.name:
        raise reader.refusal(
            "the product that reads them adds no parameter that could take them up"
        )
    if any(not torch.equal(share, other) for other in reader.shares):
        raise reader.refusal(f"{reader.name} is added at several places, where constants differ")
    path, _, attribute = reader.name.rpartition(".")
    try:
        owner: Any = small.get_submodule(path)
    except AttributeError:
        raise reader.refusal(f"{path} goes with the branch that has no channels left") from None
    bias = getattr(owner, attribute, None)
    axis = _axis_of_new(claim, owner, path, reader) if bias is None else None
    if axis is None:
        axis = _axis_of(claim, reader, touched)
    if axis.size != len(share):
        raise reader.refusal(f"{reader.name} is not one number for each channel")
    kept = claim.layout.kept(axis)
    share = share if kept is None else share[torch.from_numpy(kept)]
    like = owner.weight if bias is None else bias
    if like.dtype not in (torch.float32, torch.float64):
        raise reader.refusal(
            f"a bias of type {like.dtype} would round too much: fold in float32 first"
        )
    if bias is not None:
        bias.data.add_(share.to(bias))
    else:
        new = nn.Parameter(share.to(like), requires_grad=like.requires_grad)
        owner.register_parameter(attribute, new)


def _axis_of_new(claim: Claim, owner: nn.Module, path: str, reader: _Reader) -> Axis:
    """The channels of a bias that a layer gets."""
    axes, weight = claim.deps.trace.axes, f"{path}.weight"
    if weight not in axes or not isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)):
        raise reader.refusal(f"{path} has no bias, and its weight is computed or was rewritten")
    return axes[weight][1 if getattr(owner, "transposed", False) else 0]


def _axis_of(claim: Claim, reader: _Reader, touched: int) -> Axis:
    """The channels of a bias that there is, if nothing else reads it."""
    axes = claim.deps.trace.axes
    if reader.name not in axes:
        raise reader.refusal(f"{reader.name} is computed")
    if touched != reader.uses:
        raise reader.refusal(f"{reader.name} is read by other operators, too")
    return axes[reader.name][0]
