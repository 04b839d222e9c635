"""The masked reference: the original graph, where removed positions do not count.

Removed positions are zeroed at the operand of each op that sums over them (at the consumer, not at
the producer: sigmoid(0) is not 0). An op that looks across a pruned axis in another way sees the
kept positions only, or zeros as well, by the meaning that was chosen (`fxprune.meaning`). Where
constants are folded, removed channels lose their inputs instead, and what they still emit counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from fxprune.decompositions import decomposed
from fxprune.known_values import is_without_data, run_without_data
from fxprune.meta_kernels import DispatchMode
from fxprune.precision import INSTEAD, CastMode
from fxprune.rules import Call, Rule, axes_of, lookup, put_axes, written
from fxprune.traces import STATE_NAME, TracedTensor
from fxprune.values import Scratch, mapped, memory, plain, tensors

if TYPE_CHECKING:
    from types import TracebackType

    from torch._ops import OpOverload

    from fxprune.labels import Axis, LabelAlgebra
    from fxprune.meaning import Norm
    from fxprune.precision import Widening
    from fxprune.rules.kept import Kept
    from fxprune.traces import Trace

Removed = Callable[["Axis"], np.ndarray[Any, np.dtype[np.bool_]]]
aten = torch.ops.aten
_RANDOM = frozenset(
    {
        *(aten.bernoulli, aten.bernoulli_, aten.normal, aten.normal_, aten.uniform, aten.uniform_),
        *(aten.rand, aten.randn, aten.rand_like, aten.randn_like, aten.exponential_),
    }
)
_UNINITIALIZED = frozenset(
    {
        *(aten.empty, aten.empty_like, aten.empty_strided, aten.empty_permuted),
        *(aten.new_empty, aten.new_empty_strided),
    }
)

PARTNERS: dict[OpOverload, tuple[str, int]] = {
    aten.linear.default: ("weight", 1),
    aten.mm.default: ("mat2", 0),
    aten.addmm.default: ("mat2", 0),
    aten.bmm.default: ("mat2", 1),
    aten.baddbmm.default: ("batch2", 1),
    aten.mv.default: ("vec", 0),
    aten.dot.default: ("tensor", 0),
    aten.vdot.default: ("other", 0),
}
"""The other operand of a product, and the dim of it that is summed over."""


class RunMode(DispatchMode):
    """Runs operators on real tensors: as they are, or in float64 throughout.

    Attributes:
        widening: what makes it float64, or None.
        written: the memory of tensors that operators wrote into.
    """

    def __init__(self, widening: Widening | None = None) -> None:
        super().__init__()
        self.written: set[int] = set()
        self.widening = widening
        self._casts = CastMode(widening) if widening is not None else None

    def __enter__(self) -> RunMode:
        """Catch casts, too."""
        if self._casts is not None:
            self._casts.__enter__()  # type: ignore[no-untyped-call]  # no types in torch
        super().__enter__()  # type: ignore[no-untyped-call]  # no types in torch
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave both modes."""
        try:
            super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]  # no types in torch
        finally:
            if self._casts is not None:
                self._casts.__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]  # no types in torch

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator in the precision of the run."""
        if func._schema.is_mutable:
            self.written.update(map(memory, written(func, args, kwargs or {})))
        if self.widening is None:
            return self.run_operator(func, args, kwargs or {})
        args, kwargs = self.widening.operands(func, args, kwargs or {})
        return self.run_operator(func, args, kwargs)

    def widened(self, func: OpOverload, out: Any) -> Any:
        """What an operator returned, in the precision of the run."""
        return out if self.widening is None else self.widening.results(func, out)

    def run_operator(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Run an operator on operands of the precision of the run."""
        raise NotImplementedError


class QuietMode(RunMode):
    """Takes the randomness out of operators, so that two runs can be compared."""

    def run_operator(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Run an operator without chance."""
        return self.widened(func, run_quietly(func, args, kwargs))


def run_quietly(func: OpOverload, args: Any, kwargs: Any) -> Any:
    """Run an operator; dropout passes its input, random numbers are ones, new memory is zero.

    On the meta device integers that follow from constants keep their values.
    """
    if is_without_data(args, kwargs):
        return run_without_data(func, args, kwargs, _quietly)
    return _quietly(func, args, kwargs)


def _quietly(func: OpOverload, args: Any, kwargs: Any) -> Any:
    if func is aten.native_dropout.default:
        return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
    if func in INSTEAD and args[0].dtype is torch.float64:
        return INSTEAD[func](*args, **kwargs)
    out = func(*args, **kwargs)
    if func._overloadpacket in _RANDOM and out.is_floating_point():
        out.fill_(1)
    elif func._overloadpacket in _UNINITIALIZED:
        out.zero_()
    return out


class MaskedMode(RunMode):
    """Runs operators on real tensors that carry labels, without the removed positions."""

    def __init__(
        self,
        labels: LabelAlgebra,
        removed: Removed,
        widening: Widening | None = None,
        norm: Norm = "kept",
    ) -> None:
        super().__init__(widening)
        self.labels = labels
        self.removed = removed
        self.norm = norm
        self.scratch = Scratch()

    def run_operator(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Mask the operands, run the operator, label its outputs."""
        call = Call(self.labels, func, args, kwargs)
        rule = lookup(func)
        if rule is None:
            with self:
                out = decomposed(call)
            if out is not NotImplemented:
                return out
            call.out = self.widened(func, run_quietly(func, call.args, call.kwargs))
            for tensor in call.outputs():
                put_axes(tensor, [self.labels.pinned_axis(size) for size in tensor.shape])
            return call.out
        call.out = self.widened(func, self.run(call, rule))
        rule.propagate(call)
        return call.out

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator as if removed positions were not there."""
        call = self.masked(call, rule)
        kept: dict[str, dict[int, torch.Tensor]] = {}
        for name, dim in rule.normalizes(call) if self.norm == "kept" else ():
            gone = self.gone(call, name, dim)
            if gone is not None:
                index = torch.from_numpy(np.flatnonzero(~gone)).to(call.arg(name).device)
                kept.setdefault(name, {})[dim] = index
        if any(not len(index) for dims in kept.values() for index in dims.values()):
            return self.of_nothing(call, kept)
        if kept:
            return rule.on_kept(call, kept)
        return run_quietly(call.op, call.args, call.kwargs)

    def of_nothing(self, call: Call, kept: Kept) -> Any:
        """What an operator makes of no positions: nothing, or NaN where the axis is gone."""
        shapes = {call.arg(name).shape for name in kept}

        def made(out: torch.Tensor) -> torch.Tensor:
            if not out.is_floating_point():
                return out
            return torch.full_like(out, 0.0 if out.shape in shapes else torch.nan)

        return mapped(made, run_quietly(call.op, call.args, call.kwargs))

    def masked(self, call: Call, rule: Rule) -> Call:
        """The call with zeros at the removed positions of what it sums over."""
        masked: dict[str, torch.Tensor] = {}
        for name, dim in self.zeroed(call, rule):
            gone = self.gone(call, name, dim)
            if gone is not None:
                if name not in masked:
                    masked[name] = self.copy(call, name)
                    put_axes(masked[name], call.axes(name))
                index = torch.from_numpy(np.flatnonzero(gone)).to(masked[name].device)
                masked[name].index_fill_(dim, index, 0)
        if not masked:
            return call
        args, kwargs = call.replaced(**masked)
        return Call(self.labels, call.op, args, kwargs)

    def copy(self, call: Call, name: str) -> torch.Tensor:
        """A copy of an operand, in memory that the next call uses again if this one keeps none."""
        tensor: torch.Tensor = call.arg(name)
        if torch.is_grad_enabled() or any(out.alias_info for out in call.op._schema.returns):
            return tensor.clone()
        return self.scratch.like(tensor, tensor.shape, name).copy_(tensor)

    def zeroed(self, call: Call, rule: Rule) -> list[tuple[str, int]]:
        """The operands and dims whose removed positions are zeroed."""
        across = rule.normalizes(call) if self.norm == "exact" else ()
        return [*rule.sums(call), *across]

    def gone(self, call: Call, name: str, dim: int) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """The mask of removed positions of an operand's dim, or None if there are none."""
        axes = call.axes(name)
        if not axes:
            return None
        gone = self.removed(axes[dim])
        return gone if gone.any() else None


def is_state(tensor: torch.Tensor) -> bool:
    """Whether a tensor is, or was computed of, parameters and buffers alone."""
    return hasattr(tensor, STATE_NAME)


class StateMode(MaskedMode):
    """A mode that knows what is computed of weights alone: that counts as weights."""

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator, and name what it returns after its operands if all of them are state."""
        names = {getattr(tensor, STATE_NAME, None) for tensor in call.tensors()}
        out = super().run(call, rule)
        if names and None not in names:
            for tensor in tensors(out):
                setattr(tensor, STATE_NAME, next(iter(names)))
        return out


def relabel(value: Any, known: Any, labels: LabelAlgebra) -> None:
    """Put the finished analysis' labels on a value, on every axis of the analysed size.

    While a graph runs, positions that are coupled only later (a `new_zeros` that is filled in
    place) are not known to be removed yet; the finished analysis knows.

    Args:
        value: what a node yielded.
        known: what the analysis saw there, with a TracedTensor for each tensor.
        labels: those of the run.
    """
    for tensor, pairs in axis_pairs(value, known, labels):
        put_axes(tensor, [t if t.size == a.size else a for a, t in pairs])


def axis_pairs(
    value: Any, known: Any, labels: LabelAlgebra
) -> Iterator[tuple[torch.Tensor, list[tuple[Axis, Axis]]]]:
    """The tensors of a value, with each axis beside the one that the analysis saw there."""
    leaves = pytree.tree_leaves(plain(value))
    for tensor, traced in zip(leaves, pytree.tree_leaves(known), strict=False):
        if isinstance(traced, TracedTensor) and tensor.dim() == len(traced.axes):
            yield tensor, list(zip(axes_of(tensor, labels), traced.axes, strict=True))


def put_state(state: Mapping[str, torch.Tensor], trace: Trace) -> None:
    """Label the parameters and buffers of a copy of the original, and tell that they are such."""
    for name, tensor in state.items():
        put_axes(tensor, list(trace.axes[name]))
        setattr(tensor, STATE_NAME, trace.tied[name])
