"""The cost of candidates: of what a model would be without some channels, which is not built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fxprune.cost import Cost
from fxprune.module_trees import named_tensors
from fxprune.planning.axis_sizes import AxisSizes, Counts
from fxprune.traces import TracedTensor, Work

if TYPE_CHECKING:
    from torch import nn

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Axis, Ids
    from fxprune.labels.masks import Mask

_PROBES = ((1, 1, 1, 1), (2, 3, 5, 7), (11, 4, 9, 6), (8, 13, 3, 10))
"""Sizes of axes at which a formula must be the product that it is taken for."""


class CandidateCost:
    """The exact cost of a model after a removal, without building it.

    It is what the report of `shrink` says for the same removal, but for what a rewrite adds:
    buffers of new positions where a model indexes pruned channels, and constants that
    `norm="exact"` and `constants="fold"` need. Parameters, bytes and, for all formulas that turn
    out to be such, MACs are sums of products of axis sizes; other formulas are called.

    Args:
        deps: the analysis.
        module: what is made smaller: the captured graph by default, or the user's own module
            (`deps.model`), which can have more parameters.
    """

    def __init__(self, deps: DependencyGraph, module: nn.Module | None = None) -> None:
        trace = deps.trace
        self._labels = trace.labels
        self._count = len(trace.labels)
        works = [tensor for work in trace.work for tensor in _operands(work)]
        traced = [axis for tensor in works for axis in tensor.axes]
        self._axes = AxisSizes(
            [*traced, *(a for ax in trace.axes.values() for a in ax)], self._labels
        )
        self._formulas: list[Work] = []
        terms: dict[tuple[int, ...], list[int]] = {}
        for factors, amounts in (
            *_state_terms(deps, deps.graph_module if module is None else module, self._axes),
            *self._work_terms(trace.work),
        ):
            known = terms.setdefault(factors, [0, 0, 0])
            for column, amount in enumerate(amounts):
                known[column] += amount
        self._fix(terms)

    def _fix(self, terms: Mapping[tuple[int, ...], Sequence[int]]) -> None:
        """Terms as matrices; in Python's integers if 64 bits could be too few."""
        depth = max(map(len, terms), default=0)
        factors = [[*indices, *[0] * (depth - len(indices))] for indices in terms]
        self._factors = np.array(factors, dtype=np.int64).reshape(len(terms), depth)
        self._amounts = np.array(list(terms.values()), dtype=object).reshape(-1, 3)
        self._type: Any = object
        dense = self._at(np.zeros(self._count, dtype=np.bool_))
        if max(dense) < 1 << 62:
            self._amounts, self._type = self._amounts.astype(np.int64), np.int64
        self.dense = Cost(*dense)
        """The cost of the model as it is."""

    def __call__(self, removed: Ids) -> Cost:
        """The cost without some ids.

        Whether anything is left of every axis is not checked: `Layout` does that.
        """
        mask = np.zeros(self._count, dtype=np.bool_)
        mask[self._labels.find(removed)] = True
        return Cost(*self._at(mask))

    def _at(self, mask: Mask) -> tuple[int, int, int]:
        sizes = self._axes.of(mask)
        products = sizes.astype(self._type, copy=False)[self._factors].prod(axis=-1)
        parameters, size, macs = map(int, products @ self._amounts)
        return parameters, size, macs + sum(self._macs(work, sizes) for work in self._formulas)

    def _macs(self, work: Work, sizes: Mapping[int, int] | Counts) -> int:
        """What the formula of an operator says at some sizes."""

        def size(axis: Axis) -> int:
            number = self._axes.number(axis)
            return axis.size if number is None else int(sizes[number])

        return work.macs(lambda tensor: [size(axis) for axis in tensor.axes])

    def _work_terms(self, works: Iterable[Work]) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        for work in works:
            dense = {
                number: axis.size
                for tensor in _operands(work)
                for axis in tensor.axes
                if (number := self._axes.number(axis)) is not None
            }
            term = product_of(partial(self._macs, work), dense)
            if term is None:
                self._formulas.append(work)
            else:
                yield term[0], [0, 0, term[1]]


def product_of(
    formula: Callable[[Mapping[int, int]], int], sizes: Mapping[int, int]
) -> tuple[tuple[int, ...], int] | None:
    """A formula as a product of sizes, if it is one: the factors and the constant.

    Args:
        formula: takes the sizes of numbered axes.
        sizes: sizes at which it can be computed.

    >>> product_of(lambda sizes: 3 * sizes[1] * sizes[2] ** 2, {1: 5, 2: 4})
    ((1, 2, 2), 3)
    >>> product_of(lambda sizes: sizes[1] + sizes[2], {1: 5, 2: 4}) is None
    True
    """
    if not all(sizes.values()):
        return None
    try:
        base = formula(sizes)
        factors: list[int] = []
        constant = base
        for axis, size in sizes.items():
            power = {base: 0, 2 * base: 1, 4 * base: 2}.get(formula({**sizes, axis: 2 * size}), -1)
            if power < 0 or not base or constant % size**power:
                return None
            factors += [axis] * power
            constant //= size**power
        for probe in _PROBES:
            at = {axis: probe[k % 4] + k // 4 for k, axis in enumerate(sizes)}
            if formula(at) != constant * int(np.prod([at[axis] for axis in factors], dtype=object)):
                return None
    except Exception:  # noqa: BLE001  # a formula may refuse sizes, each in its own way
        return None
    return tuple(sorted(factors)), constant


def _operands(work: Work) -> list[TracedTensor]:
    return list(_tensors_in([work.args, list(work.kwargs.values()), work.out]))


def _tensors_in(value: Any) -> Iterator[TracedTensor]:
    if isinstance(value, TracedTensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors_in(item)


def _state_terms(
    deps: DependencyGraph, module: nn.Module, sizes: AxisSizes
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """For every tensor of the model: its axes, and what each entry counts."""
    axes = {
        id(tensor): deps.trace.axes[name]
        for name, tensor in named_tensors(module).items()
        if name in deps.trace.axes
    }
    parameters = [(tensor, 1) for tensor in module.parameters()]
    for tensor, is_parameter in [*parameters, *((tensor, 0) for tensor in module.buffers())]:
        found = [(a.size, sizes.number(a)) for a in axes.get(id(tensor), ())]
        free = tuple(sorted(number for _, number in found if number is not None))
        entries = tensor.numel()
        for size, number in found:
            entries //= size if number is not None else 1
        yield free, [entries * is_parameter, entries * tensor.element_size(), 0]
