"""Constants of removed channels: what goes into which bias, for `constants="fold"`.

The original runs once in eval mode with its inputs unknown (`fxprune/unknowns.py`). A removed
channel without inputs (see `FoldedMode`) emits its bias, and what is still a number where a product
reads it is a constant: its share of the outcome goes into the product's bias, if it is the same
everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fxprune.errors import Location, RewriteError
from fxprune.input_sets import other_sizes
from fxprune.module_trees import clone_tree, walk
from fxprune.planning.branches import kinds_of
from fxprune.products import Product
from fxprune.reads import columns_read
from fxprune.reference import PARTNERS, is_state
from fxprune.rules import locate
from fxprune.rules.convolution import transposed_channels
from fxprune.stepping import OriginalFailsError
from fxprune.traces import STATE_NAME
from fxprune.unknowns import (
    UnknownMode,
    by_channel,
    run_in,
    run_on_unknown,
    run_with,
    unknowable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fxprune.comparison import Claim
    from fxprune.labels import Axis, Ids, LabelAlgebra
    from fxprune.planning import Layout
    from fxprune.precision import Precision
    from fxprune.rules import Call, Rule

aten = torch.ops.aten
_SAME = 1e-10
"""How far a constant may differ from place to place, relative to the largest terms of its sum."""
_CHUNK = 16
"""How many channels of a convolution are looked at one by one at a time."""
_UNKNOWN = "the channel carries what depends on the inputs"
_VARIED = "the constant differs from place to place, as zero padding makes it"
_PADDED = "the operator pads with zeros, where the constant is missing"
_TAPS = "a transposed convolution takes the constant with other taps from place to place"
_SIZED = "the constant is another one for inputs of another size"
_GIVE_BIAS = "give the product a bias in the same operator (zeros will do), "
_NO_IDS = np.zeros(0, dtype=np.int64)


@dataclass
class _Reader:
    """What a bias is to take up, and where it is added."""

    name: str
    shares: list[torch.Tensor] = field(default_factory=list)
    ids: frozenset[int] = frozenset()
    where: Location | str = ""
    uses: int = 0

    def refusal(self, why: str, remedy: str = "") -> Refusal:
        """That the bias cannot take it up."""
        return Refusal(self.ids, self.where, why, remedy)


@dataclass(frozen=True)
class Refusal:
    """Why constants cannot be folded at a place, those of which ids, and what would change it."""

    ids: frozenset[int]
    where: Location | str
    why: str
    remedy: str = ""


class Addition(NamedTuple):
    """What a bias takes up, or a new bias is, of a module; a number for each of some channels."""

    path: str
    attribute: str
    share: torch.Tensor
    kept: Ids | None

    def bias(self, model: nn.Module) -> torch.Tensor | None:
        """The bias of a model that has the module, or None if it has yet to get one."""
        bias: torch.Tensor | None = getattr(model.get_submodule(self.path), self.attribute, None)
        return bias

    def add(self, model: nn.Module, where: torch.Tensor | slice) -> None:
        """Add it to the bias of a model, at some positions."""
        bias = self.bias(model)
        assert bias is not None
        bias.data[where] += self.share.to(bias)


class ConstantMode(UnknownMode):
    """Finds what the products of the original take of constants."""

    def __init__(self, labels: LabelAlgebra, precision: Precision, claim: Claim) -> None:
        removed = partial(claim.layout.removed_positions, labels=labels)
        super().__init__(labels, removed, precision, claim.meaning.norm)
        self.claim = claim
        self.readers: dict[str, _Reader] = {}
        self.refusals: list[Refusal] = []

    def read(self, call: Call, rule: Rule, product: Product, weight: torch.Tensor) -> None:
        """Note what a product takes of removed channels."""
        reader, x = self.reader(call, product), call.arg(product.x)
        reader.uses += 1
        out_axis = product.channels(call)
        kept = torch.from_numpy(~self.removed(out_axis))
        found = ((d, self.gone(call, n, d)) for n, d in rule.sums(call) if n == product.x)
        dim, gone = next(((d, g) for d, g in found if g is not None), (0, None))
        if gone is None or not product.mixes:
            reader.shares.append(x.new_zeros(out_axis.size))
            return
        index = torch.from_numpy(np.flatnonzero(gone))
        read = index[columns_read(call, kept.nonzero().flatten())[index]]
        unknown = read[_flat(x, dim, read).isnan().any(1)]
        if len(unknown):
            blind = torch.zeros_like(x).index_fill(dim, unknown, 1.0)
            reach = run_with(call, {product.x: blind, product.weight: weight.abs()}, product.bias)
            if bool(by_channel(reach, call)[kept].any()):
                self.refuse(call, product.x, dim, unknown, _UNKNOWN)
                return
        x = x.nan_to_num(nan=0.0)
        taken = _Taken(call, product, weight, x, dim)
        amounts = taken.shares(index)
        reader.shares.append(torch.where(kept, amounts[:, 0], 0))
        nonzero = read[(_flat(x, dim, read) != 0).any(1)]
        reader.ids |= self.ids(call, product.x, dim, nonzero)
        limit = _SAME * taken.largest(index)
        if bool((_spread(amounts[kept]) > limit).any()):
            uneven = taken.uneven(nonzero, kept, limit)
            varied = bool((_spread(_flat(x, dim, nonzero)) != 0).any())
            is_up = call.op is aten.convolution.default and call.arg("transposed")
            why = _VARIED if varied else _TAPS if is_up else _PADDED
            self.refuse(call, product.x, dim, uneven, why)

    def reader(self, call: Call, product: Product) -> _Reader:
        """The bias that a product adds, or would add if it had one."""
        assert self.node is not None
        is_scaled = call.has("beta") and call.arg("beta") != 1
        bias = None if product.bias is None or is_scaled else call.arg(product.bias)
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

    def read_otherwise(self, call: Call, rule: Rule) -> None:
        """A sum over removed channels that is no product with a weight has no bias."""
        across = [
            (name, dim)
            for name, dim in rule.normalizes(call)
            if self.norm == "exact" or is_state(call.arg(name))
        ]
        for name, dim in (*rule.sums(call), *across):
            gone = self.gone(call, name, dim)
            if gone is None:
                continue
            index = torch.from_numpy(np.flatnonzero(gone))
            counts = self.is_nonzero(call, name, dim, index)
            if call.op in PARTNERS:
                counts &= self.is_nonzero(call, *PARTNERS[call.op], index)
            if bool(counts.any()):
                what = f"{call.name} reads the channel, and adds no bias that could take it up"
                self.refuse(call, name, dim, index[counts], what)

    def is_nonzero(self, call: Call, name: str, dim: int, index: torch.Tensor) -> torch.Tensor:
        """Which positions along a dim are anything but zero, where the other dims stay."""
        tensor = call.arg(name)
        for other in range(tensor.dim()):
            gone = self.gone(call, name, other) if other != dim % tensor.dim() else None
            if gone is not None:
                tensor = tensor.index_select(other, torch.from_numpy(np.flatnonzero(~gone)))
        return (_flat(tensor, dim, index) != 0).any(1) | self.is_unknown(call.arg(name))

    def refuse(self, call: Call, name: str, dim: int, index: torch.Tensor, why: str) -> None:
        """Note that constants at positions of an operand cannot be folded."""
        assert self.node is not None
        ids = self.ids(call, name, dim, index)
        self.refusals.append(Refusal(ids, locate(self.node, call.op), why))

    def ids(self, call: Call, name: str, dim: int, index: torch.Tensor) -> frozenset[int]:
        """The removed ids at positions of an operand."""
        vectors = self.labels.leaves(call.axes(name)[dim])
        found = np.concatenate([*(vector[index.numpy()] for vector in vectors), _NO_IDS])
        return frozenset(found[self.claim.layout.is_removed(found)].tolist())


def _flat(tensor: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    """What a tensor holds at positions along a dim, a row for each."""
    rows = tensor.index_select(dim, index).movedim(dim, 0)
    return rows.reshape(len(index), math.prod(rows.shape[1:]))


def _spread(rows: torch.Tensor) -> torch.Tensor:
    """How far the numbers of each row are apart."""
    return rows.max(1).values - rows.min(1).values if rows.numel() else rows.new_zeros(len(rows))


@dataclass(frozen=True)
class _Taken:
    """What a product takes of a value whose channels lie along a dim."""

    call: Call
    product: Product
    weight: torch.Tensor
    x: torch.Tensor
    dim: int

    def shares(self, index: torch.Tensor) -> torch.Tensor:
        """What some channels add to each channel of the outcome, place by place."""
        taken = self.x.index_select(self.dim, index)
        alone = torch.zeros_like(self.x).index_copy(self.dim, index, taken)
        changes = {self.product.x: alone, self.product.weight: self.weight}
        return by_channel(run_with(self.call, changes, self.product.bias), self.call)

    def largest(self, index: torch.Tensor) -> torch.Tensor:
        """The largest sum of what they add without signs."""
        return replace(self, weight=self.weight.abs(), x=self.x.abs()).shares(index).abs().max()

    def uneven(self, index: torch.Tensor, kept: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
        """Those that alone add what differs from place to place; all if none does.

        A plain convolution tells that as a depthwise one, with a group for each channel.
        """
        is_plain = self.call.op is aten.convolution.default and not self.call.arg("transposed")
        found = []
        for part in index.split(_CHUNK if is_plain and self.call.arg("groups") == 1 else 1):
            if is_plain and self.call.arg("groups") == 1:
                rows = self.weight[kept].index_select(1, part).transpose(0, 1)
                changes = {
                    self.product.x: self.x.index_select(1, part),
                    self.product.weight: rows.reshape(-1, 1, *rows.shape[2:]),
                    "groups": len(part),
                }
                shares = by_channel(run_with(self.call, changes, self.product.bias), self.call)
            else:
                shares = self.shares(part)[kept]
            found.append((_spread(shares) > limit).reshape(len(part), -1).any(1))
        uneven = index[torch.cat(found)]
        return uneven if len(uneven) else index


# -- from what was found to a model that has it ---------------------------------------------


def additions_to(claim: Claim, values: Sequence[Any]) -> Sequence[Addition]:
    """What biases are to take up of what removed channels would still emit.

    Args:
        claim: the original, what stays, and what that means.
        values: one for each placeholder; of tensors only shape and dtype matter.

    Raises:
        RewriteError: constants of some channels cannot be folded; names the first ones, and why.
    """
    if why := unknowable(claim.deps, values):
        raise RewriteError("constants cannot be folded", why=why, hint='pass constants="drop"')
    refusals, additions = constants_of(claim, values)
    if refusals:
        raise _error(claim, refusals)
    return additions


def known_additions(original: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Sequence[Addition]:
    """The biases that a shrunk model has and the original has not.

    Args:
        original: the original.
        tensors: those of the shrunk model, by name.
    """
    modules = dict(original.named_modules(remove_duplicate=False))
    split = ((name.rpartition("."), tensor) for name, tensor in tensors.items())
    return [
        Addition(path, attribute, tensor, None)
        for (path, _, attribute), tensor in split
        if attribute == "bias" and path in modules and getattr(modules[path], "bias", 0) is None
    ]


def folded_layout(layout: Layout, additions: Sequence[Addition]) -> Layout:
    """The same layout, in which branches that go have taken up what their biases are to.

    Raises:
        RewriteError: a layer of such a branch has no bias.
    """
    if not layout.emptied or not additions:
        return layout
    graph = layout.original.graph
    kinds = kinds_of(graph, layout)
    frozen = {str(n.target) for n in graph.nodes if kinds[n.name] in ("gone", "constant")}
    for each in additions:
        if each.path in frozen and each.bias(layout.original) is None:
            raise _no_bias(each, "it goes with the branch that has no channels left")
    found = [each for each in additions if each.bias(layout.original) is not None]
    biases = {id(each.bias(layout.original)) for each in found}
    original = clone_tree(layout.original, lambda t: t.detach().clone() if id(t) in biases else t)
    for each in found:
        each.add(original, slice(None) if each.kept is None else torch.from_numpy(each.kept))
    return layout.on(original)


def _no_bias(addition: Addition, why: str) -> RewriteError:
    return RewriteError(
        f"constants of removed channels cannot be folded into {addition.path}, which has no bias",
        where=f"module {addition.path}",
        why=why,
        hint='take these channels from the plan, or pass constants="drop"',
    )


def fold_constants(additions: Sequence[Addition], small: nn.Module, layout: Layout) -> None:
    """Add to the biases of a shrunk model what they are to take up.

    Args:
        additions: what that is.
        small: the shrunk model, which is changed: biases, and new ones where there were none. A
            new bias has fewer entries than what the weight beside it has lost.
        layout: what the model was shrunk by: a `folded_layout`. What goes into a bias that has
            gone is in the constant that took the place of its branch.

    Raises:
        RewriteError: a layer without a bias was rewritten.
    """
    modules = dict(walk(small, again=True))
    for each in additions:
        if each.bias(layout.original) is not None:
            if each.path in modules:
                each.add(small, slice(None))
            continue
        owner = _without_bias(each, modules)
        like: Any = getattr(owner, "weight_orig", owner.weight)
        new = nn.Parameter(each.share.to(like), requires_grad=like.requires_grad)
        owner.register_parameter(each.attribute, new)


def check_foldable(additions: Sequence[Addition], small: nn.Module, layout: Layout) -> None:
    """Check that `fold_constants` can do what it is asked, of which only shapes matter.

    Raises:
        RewriteError: see there.
    """
    modules = dict(small.named_modules(remove_duplicate=False))
    for each in additions:
        if each.bias(layout.original) is None:
            _without_bias(each, modules)


def _without_bias(addition: Addition, modules: Mapping[str, nn.Module]) -> Any:
    """The layer that is to get a bias, which it has not."""
    owner = modules.get(addition.path)
    if not isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)):
        raise _no_bias(addition, "its operators took its place")
    width = owner.out_features if isinstance(owner, nn.Linear) else owner.out_channels
    if addition.share.shape != (width,):
        raise _no_bias(addition, f"it has {width} channels, and not {list(addition.share.shape)}")
    return owner


def constants_of(
    claim: Claim, values: Sequence[Any]
) -> tuple[Sequence[Refusal], Sequence[Addition]]:
    """What biases are to take up; or why not.

    Args:
        claim: the original, of which constants can be told (`unknowable`), and what stays.
        values: one for each placeholder; of tensors only shape and dtype matter.
    """

    def mode_of(labels: LabelAlgebra, precision: Precision) -> ConstantMode:
        return ConstantMode(labels, precision, claim)

    mode = run_on_unknown(claim.deps, values, mode_of)
    if mode.refusals:
        return mode.refusals, ()
    refusals: list[Refusal] = []
    for others in other_sizes(tuple(values)):
        try:
            again = run_in(claim.deps, others, mode_of, mode.precision)
        except OriginalFailsError:
            continue
        refusals += again.refusals
        refusals += [
            r.refusal(_SIZED) for key, r in mode.readers.items() if _differs(again, key, r)
        ]
    if refusals:
        return refusals, ()
    found = [
        _addition(claim, reader, mode.touched[reader.name])
        for reader in mode.readers.values()
        if any(bool(share.any()) for share in reader.shares)
    ]
    refused = [entry for entry in found if isinstance(entry, Refusal)]
    return refused, [entry for entry in found if isinstance(entry, Addition)]


def _differs(other: ConstantMode, key: str, reader: _Reader) -> bool:
    """Whether a run at another size found other constants."""
    shares = other.readers[key].shares if key in other.readers else []
    return not all(
        any(
            share.shape == known.shape and torch.allclose(share, known, rtol=_SAME, atol=_SAME)
            for known in reader.shares
        )
        for share in shares
    )


def _error(claim: Claim, refusals: Sequence[Refusal]) -> RewriteError:
    first, more = refusals[0], len(refusals) - 1
    others = f" (and {more} more)" if more else ""
    ids = np.array(sorted(first.ids), dtype=np.int64)
    channels = [
        f"{group.name} {np.flatnonzero(np.isin(group.ids, ids)).tolist()}"
        for group in claim.deps.groups
        if group.pinned is None and np.isin(group.ids, ids).any()
    ]
    return RewriteError(
        f"constants of removed channels cannot be folded: {', '.join(channels)}{others}",
        where=first.where,
        why=first.why,
        hint=f'{first.remedy}take these channels from the plan, or pass constants="drop"',
    )


def _addition(claim: Claim, reader: _Reader, touched: int) -> Addition | Refusal:
    """The share of constants that a bias takes up."""
    share = reader.shares[0]
    if not reader.name:
        return reader.refusal(
            "the product that reads them adds no parameter that could take them up", _GIVE_BIAS
        )
    if any(not torch.equal(share, other) for other in reader.shares):
        return reader.refusal(f"{reader.name} is added at several places, where constants differ")
    path, _, attribute = reader.name.rpartition(".")
    owner: Any = claim.deps.graph_module.get_submodule(path)
    bias = getattr(owner, attribute, None)
    axis = _axis_of_new(claim, owner, path) if bias is None else None
    axis = axis or _axis_of(claim, reader, touched)
    if isinstance(axis, str):
        return reader.refusal(axis)
    if axis.size != len(share):
        return reader.refusal(f"{reader.name} is not one number for each channel")
    like = owner.weight if bias is None else bias
    if like.dtype not in (torch.float32, torch.float64):
        return reader.refusal(
            f"a bias of type {like.dtype} would round too much: fold in float32 first"
        )
    kept = claim.layout.kept(axis)
    share = share if kept is None else share[torch.from_numpy(kept)]
    return Addition(path, attribute, share, kept)


def _axis_of_new(claim: Claim, owner: nn.Module, path: str) -> Axis | str:
    """The channels of a bias that a layer gets, or why it can have none."""
    axes = claim.deps.trace.axes
    weight = next((w for w in (f"{path}.weight", f"{path}.weight_orig") if w in axes), None)
    if weight is None or not isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)):
        return f"{path} has no bias, and its weight is computed or was rewritten"
    if not getattr(owner, "transposed", False):
        return axes[weight][0]
    original: Any = claim.deps.graph_module.get_submodule(path)
    return transposed_channels(claim.layout.labels, axes[weight], original.groups)


def _axis_of(claim: Claim, reader: _Reader, touched: int) -> Axis | str:
    """The channels of a bias that there is, or why it takes nothing up: something else reads it."""
    axes = claim.deps.trace.axes
    if reader.name not in axes:
        return f"{reader.name} is computed"
    if touched != reader.uses:
        return f"{reader.name} is read by other operators, too"
    return axes[reader.name][0]
