"""One sample with the labels that a rule gives it: run it full and masked, and run it sliced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from fxprune.errors import FxPruneError
from fxprune.label_mode import LabelMode
from fxprune.labels import Axis, LabelAlgebra
from fxprune.labels.masks import Mask, free_ids, mask
from fxprune.reference import MaskedMode
from fxprune.rules import Call, Place, Rule, axes_of, lookup, put_axes
from fxprune.testing.samples import Kept, Positions, Sample, is_operand
from fxprune.traces import Trace

if TYPE_CHECKING:
    from torch._ops import OpOverload

AxisPositions: TypeAlias = Sequence[Sequence[Positions]]
"""For each tensor and dim, the kept positions."""

_MOST_SINGLES = 64


class CannotRunError(Exception):
    """The operator refuses the sliced operands, or the adapter cannot express them."""


class Trial:
    """A sample whose operands and outputs carry the labels that a rule gave them.

    Attributes:
        inputs: the axes of every operand.
        outputs: the axes of every output.
        names: for each operand the argument it belongs to.
        labelled: for each operand whether it is an Operand of the sample.
    """

    def __init__(self, sample: Sample, rule: Rule | None = None) -> None:
        self.sample, self.rule = sample, rule or _rule_of(sample.op)
        self.labels = LabelAlgebra()
        self.labels.place = Place(fx.Graph().placeholder("node"), sample.op)
        shadows = pytree.tree_map(
            lambda v: v.shadow(self.labels) if is_operand(v) else v,
            (sample.args, dict(sample.kwargs)),
            is_leaf=is_operand,
        )
        call = Call(self.labels, sample.op, *shadows)
        before = [axes_of(tensor, self.labels) for tensor in call.tensors()]
        self.names = _names(call)
        self.labelled = [is_operand(v) for v in _operands((sample.args, dict(sample.kwargs)))]
        call.out = LabelMode(Trace(self.labels)).execute(call, self.rule)
        self.rule.propagate(call)
        self.inputs: list[list[Axis]] = before
        self.outputs = [list(axes_of(tensor, self.labels)) for tensor in call.outputs()]

    @property
    def axes(self) -> list[Axis]:
        """All axes of the operands and outputs."""
        return [axis for axes in self.inputs + self.outputs for axis in axes]

    @property
    def free(self) -> set[int]:
        """The ids that can be removed."""
        return free_ids(self.labels, *self.axes)

    def removals(self, count: int, seed: int) -> Iterator[Mask]:
        """Sets of ids that leave at least one position of every axis.

        First as much as can go, then single ids, then `count - 1` random sets.
        """
        random = np.random.default_rng(seed)
        ids = random.permutation(sorted(self.free)).tolist()
        yield self._allowed(ids)
        for id_ in ids[:_MOST_SINGLES]:
            yield self._allowed([id_])
        for _ in range(count - 1):
            some = [id_ for id_ in random.permutation(ids).tolist() if random.random() < 0.5]
            yield self._allowed(some)

    def _allowed(self, ids: Sequence[int]) -> Mask:
        """As many of these ids, in this order, as leave at least one position of every axis."""
        axes = [axis for axis in self.axes if self.labels.leaves(axis)]
        removed = np.zeros(len(self.labels), dtype=np.bool_)
        for id_ in ids:
            removed[id_] = True
            if any(mask(self.labels, axis, removed).all() for axis in axes):
                removed[id_] = False
        return removed

    def kept(self, axes: Sequence[Sequence[Axis]], removed: Mask) -> list[list[Positions]]:
        """The kept positions of every tensor and dim."""
        return [
            [np.flatnonzero(~mask(self.labels, axis, removed)) for axis in each] for each in axes
        ]

    def call(self, *, negative: bool, seed: int) -> Call:
        """The call on numbers, with its labels."""
        generator = torch.Generator().manual_seed(seed)

        def value(v: Any) -> Any:
            if is_operand(v):
                return v.draw(generator, negative=negative)
            return v.clone() if isinstance(v, torch.Tensor) else v

        given = (self.sample.args, dict(self.sample.kwargs))
        call = Call(self.labels, self.sample.op, *pytree.tree_map(value, given, is_leaf=is_operand))
        for tensor, axes in zip(call.tensors(), self.inputs, strict=True):
            put_axes(tensor, axes)
        return call

    def masked(self, call: Call, removed: Callable[[Axis], Mask]) -> list[torch.Tensor]:
        """The outcome on full operands in which the removed positions do not count."""
        return tensors_in(MaskedMode(self.labels, removed).run(call, self.rule))

    def sliced(self, call: Call, inputs: AxisPositions, outputs: AxisPositions) -> Any:
        """The outcome on sliced operands.

        Raises:
            CannotRunError: the operator refuses them.
        """
        sliced, by_name = self._slice(call, inputs)
        try:
            changes = self.sample.adapt(Kept(call, by_name, outputs))
            if self.sample.instead is not None:
                return tensors_in(self.sample.instead(sliced.arg("self"), **changes))
            args, kwargs = sliced.replaced(**changes)
            return tensors_in(sliced.op(*args, **kwargs))
        except (RuntimeError, IndexError, ValueError, ArithmeticError) as error:
            raise CannotRunError(str(error)) from error

    def _slice(self, call: Call, kept: AxisPositions) -> tuple[Call, dict[str, Any]]:
        """The call with sliced operands, and the kept positions by argument name."""
        positions = iter(kept)

        def cut(value: Any) -> Any:
            return _Slice(value, next(positions)) if isinstance(value, torch.Tensor) else value

        args, kwargs = pytree.tree_map(cut, (tuple(call.args), dict(call.kwargs)))
        found = Call(self.labels, call.op, args, kwargs)
        by_name = {
            argument.name: pytree.tree_map(
                lambda v: v.kept if isinstance(v, _Slice) else v, found.arg(argument.name)
            )
            for argument in call.op._schema.arguments
        }
        args, kwargs = pytree.tree_map(
            lambda v: v.tensor() if isinstance(v, _Slice) else v, (args, kwargs)
        )
        return Call(self.labels, call.op, args, kwargs), by_name


def _rule_of(op: OpOverload) -> Rule:
    found = lookup(op)
    if found is None:
        raise FxPruneError(
            f"operator {op} has no label rule",
            hint=f"register one with @fxprune.rule(torch.ops.{op})",
        )
    return found


def _names(call: Call) -> list[str]:
    """For each operand the argument it belongs to, with its number if that is a list."""
    names = []
    for argument in call.op._schema.arguments:
        value = call.arg(argument.name)
        found = tensors_in(value)
        single = isinstance(value, torch.Tensor)
        names += [argument.name if single else f"{argument.name}[{n}]" for n in range(len(found))]
    return names


def _operands(value: Any) -> list[Any]:
    leaves = pytree.tree_leaves(value, is_leaf=is_operand)
    return [leaf for leaf in leaves if is_operand(leaf) or isinstance(leaf, torch.Tensor)]


@dataclass(frozen=True)
class _Slice:
    """A tensor that is about to be sliced; a leaf for pytree."""

    full: torch.Tensor
    kept: Sequence[Positions]

    def tensor(self) -> torch.Tensor:
        return take(self.full, self.kept).clone()


def take(tensor: torch.Tensor, kept: Sequence[Positions]) -> torch.Tensor:
    """The kept positions of a tensor."""
    for dim, positions in enumerate(kept):
        if len(positions) < tensor.shape[dim]:
            tensor = tensor.index_select(dim, torch.from_numpy(positions))
    return tensor


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in a value, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
