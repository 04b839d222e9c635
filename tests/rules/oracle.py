"""The rule oracle: slicing before an operator against slicing after it.

A rule is right if the operator on sliced operands gives the sliced outcome of the operator on full
operands in which removed positions do not count, for every set of ids that the labels allow to be
removed. It is precise if as many ids stay free as the sample says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from fxprune.interpretation import LabelMode, Trace
from fxprune.labels import Axis, LabelAlgebra
from fxprune.reference import MaskedMode
from fxprune.rules import Call, Place, Rule, axes_of, lookup, put_axes
from tests.labels.masks import Mask, free_ids, mask

Positions: TypeAlias = NDArray[np.int64]
Kind: TypeAlias = Literal["normal", "positive", "unit", "boolean"]
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Operand:
    """A labelled tensor: random numbers of a kind, or given ones, whose values no rule sees."""

    shape: tuple[int, ...]
    kind: Kind = "normal"
    given: torch.Tensor | None = None

    def draw(self, generator: torch.Generator, *, negative: bool) -> torch.Tensor:
        if self.given is not None:
            return self.given.clone()
        uniform = torch.rand(self.shape, generator=generator, dtype=torch.float64)
        normal = torch.randn(self.shape, generator=generator, dtype=torch.float64)
        return {
            "normal": -normal.abs() if negative else normal,
            "positive": uniform + 0.5,
            "unit": uniform,
            "boolean": uniform < 0.5,
        }[self.kind]

    def shadow(self, labels: LabelAlgebra) -> torch.Tensor:
        """A tensor without data that carries fresh labels."""
        like = self.draw(torch.Generator(), negative=False)
        shadow = torch.empty_like(like, device="meta")
        put_axes(shadow, [labels.fresh_axis(size) for size in self.shape])
        return shadow


class Kept:
    """The kept positions of every operand and output, for the adapter of a sample."""

    def __init__(
        self, call: Call, inputs: Mapping[str, Any], outputs: Sequence[Sequence[Positions]]
    ) -> None:
        self.call = call
        self.inputs = inputs
        self.outputs = outputs

    def arg(self, name: str) -> Any:
        """An argument of the original call."""
        return self.call.arg(name)

    def shape(self, output: int = 0) -> list[int]:
        """The shape of a sliced output."""
        return [len(positions) for positions in self.outputs[output]]

    def size(self, name: str, dim: int) -> int:
        """How many positions an operand keeps."""
        return len(self.inputs[name][dim])

    def renumbered(self, name: str, dim: int, positions: Any) -> list[int]:
        """New numbers of old positions of an operand, all of which are kept."""
        kept = self.inputs[name][dim].tolist()
        return [kept.index(int(position)) for position in positions]


Adapter: TypeAlias = Callable[[Kept], Mapping[str, Any]]


def unchanged(kept: Kept) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Sample:
    """A call of an operator, and what its rule must say about it.

    Attributes:
        op: the operator.
        args: its arguments; an Operand is labelled, a plain tensor has known values and is pinned.
        free: how many ids are free on all operands and outputs together.
        kwargs: its keyword arguments.
        adapt: the arguments that name sizes, positions or groups, for the sliced operands.
        instead: the operator to run on the sliced operands, where `op` cannot express the outcome.
        random: the outcome is not determined, so that only shapes are compared.
    """

    op: OpOverload
    args: tuple[Any, ...]
    free: int
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    adapt: Adapter = unchanged
    instead: Callable[..., Any] | None = None
    random: bool = False

    def __str__(self) -> str:
        def short(value: Any) -> Any:
            if isinstance(value, Operand):
                return "x".join(map(str, value.shape)) or "scalar"
            return "index" if isinstance(value, torch.Tensor) else value

        given = pytree.tree_map(short, (self.args, dict(self.kwargs)), is_leaf=_is_operand)
        text = ",".join([*map(str, given[0]), *(f"{k}={v}" for k, v in given[1].items())])
        return f"{str(self.op).removeprefix('aten.')}({text})".replace(" ", "")


class WrongRuleError(AssertionError):
    """Slicing before and after the operator differ."""


def _is_operand(value: Any) -> bool:
    return isinstance(value, Operand)


class Trial:
    """A sample whose operands and outputs carry the labels that a rule gave them."""

    def __init__(self, sample: Sample, rule: Rule | None = None) -> None:
        found = rule if rule is not None else lookup(sample.op)
        assert found is not None, f"{sample.op} has no rule"
        self.sample, self.rule = sample, found
        self.labels = LabelAlgebra()
        self.labels.place = Place(fx.Graph().placeholder("node"), sample.op)
        shadows = pytree.tree_map(
            lambda v: v.shadow(self.labels) if _is_operand(v) else v,
            (sample.args, dict(sample.kwargs)),
            is_leaf=_is_operand,
        )
        call = Call(self.labels, sample.op, *shadows)
        before = [axes_of(tensor, self.labels) for tensor in call.tensors()]
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
        """Random sets of ids that leave at least one position of every axis.

        The first takes as much as it can.
        """
        random = np.random.default_rng(seed)
        axes = [axis for axis in self.axes if self.labels.leaves(axis)]
        for number in range(count):
            removed = np.zeros(len(self.labels), dtype=np.bool_)
            for id_ in random.permutation(sorted(self.free)).tolist():
                if number == 0 or random.random() < 0.5:
                    removed[id_] = True
                    if any(mask(self.labels, axis, removed).all() for axis in axes):
                        removed[id_] = False
            yield removed

    def kept(self, axis: Axis, removed: Mask) -> Positions:
        """The kept positions of an axis."""
        return np.flatnonzero(~mask(self.labels, axis, removed))

    def check(self, removed: Mask, *, negative: bool, seed: int) -> None:
        """Compare slicing before with slicing after the operator.

        Raises:
            WrongRuleError: they differ, or the operator cannot run on the sliced operands.
        """
        args, kwargs = self._values(negative=negative, seed=seed)
        call = Call(self.labels, self.sample.op, args, kwargs)
        for tensor, axes in zip(call.tensors(), self.inputs, strict=True):
            put_axes(tensor, axes)
        inputs = [[self.kept(axis, removed) for axis in axes] for axes in self.inputs]
        outputs = [[self.kept(axis, removed) for axis in axes] for axes in self.outputs]
        sliced, by_name = self._sliced(call, inputs)
        mode = MaskedMode(self.labels, lambda axis: mask(self.labels, axis, removed))
        full = _tensors(mode.run(call, self.rule))
        shapes = [tuple(tensor.shape) for tensor in full]
        if shapes != [tuple(axis.size for axis in axes) for axes in self.outputs]:
            raise WrongRuleError(f"the masked outcome has shapes {shapes}")
        expected = [_take(tensor, kept) for tensor, kept in zip(full, outputs, strict=True)]
        changes = self.sample.adapt(Kept(call, by_name, outputs))
        got = _tensors(self._run(sliced, changes))
        self._compare(expected, got)

    def _values(self, *, negative: bool, seed: int) -> tuple[Any, Any]:
        generator = torch.Generator().manual_seed(seed)

        def value(v: Any) -> Any:
            if _is_operand(v):
                return v.draw(generator, negative=negative)
            return v.clone() if isinstance(v, torch.Tensor) else v

        return pytree.tree_map(
            value, (self.sample.args, dict(self.sample.kwargs)), is_leaf=_is_operand
        )

    def _sliced(
        self, call: Call, kept: Sequence[Sequence[Positions]]
    ) -> tuple[Call, dict[str, Any]]:
        """The call with sliced operands, and the kept positions by argument name."""
        positions = iter(kept)

        def take(value: Any) -> Any:
            return _Slice(value, next(positions)) if isinstance(value, torch.Tensor) else value

        args, kwargs = pytree.tree_map(take, (tuple(call.args), dict(call.kwargs)))
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

    def _run(self, sliced: Call, changes: Mapping[str, Any]) -> Any:
        try:
            if self.sample.instead is not None:
                return self.sample.instead(sliced.arg("self"), **changes)
            args, kwargs = sliced.replaced(**changes)
            return sliced.op(*args, **kwargs)
        except (RuntimeError, IndexError, ValueError) as error:
            raise WrongRuleError(f"{self.sample.op} cannot run on the sliced operands") from error

    def _compare(self, expected: list[torch.Tensor], got: list[torch.Tensor]) -> None:
        shapes = [tuple(t.shape) for t in expected], [tuple(t.shape) for t in got]
        if shapes[0] != shapes[1]:
            raise WrongRuleError(f"shapes {shapes[1]} instead of {shapes[0]}")
        if self.sample.random:
            return
        for number, (left, right) in enumerate(zip(expected, got, strict=True)):
            if left.is_floating_point():
                same = torch.allclose(left, right, rtol=0, atol=TOLERANCE, equal_nan=True)
            else:
                same = torch.equal(left, right)
            if not same:
                raise WrongRuleError(f"output {number}:\n{right}\ninstead of\n{left}")


@dataclass(frozen=True)
class _Slice:
    """A tensor that is about to be sliced; a leaf for pytree."""

    full: torch.Tensor
    kept: Sequence[Positions]

    def tensor(self) -> torch.Tensor:
        return _take(self.full, self.kept).clone()


def _take(tensor: torch.Tensor, kept: Sequence[Positions]) -> torch.Tensor:
    for dim, positions in enumerate(kept):
        if len(positions) < tensor.shape[dim]:
            tensor = tensor.index_select(dim, torch.from_numpy(positions))
    return tensor


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def check(sample: Sample, rule: Rule | None = None, *, removals: int = 5, seed: int = 0) -> Trial:
    """Try a sample with several removals, on random and on all-negative numbers.

    Args:
        sample: the call.
        rule: the rule to check; by default the registered one.
        removals: how many sets of ids to remove.
        seed: for the removals and the numbers.

    Raises:
        WrongRuleError: the rule is wrong.
    """
    trial = Trial(sample, rule)
    for removed in trial.removals(removals, seed):
        for negative in (False, True):
            trial.check(removed, negative=negative, seed=seed)
    return trial
