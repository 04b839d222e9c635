"""Numbers in a recorded graph that depend on sizes of its inputs, found by comparing records."""

from __future__ import annotations

import copy
import itertools
import math
import operator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import fx
from torch.utils import _pytree as pytree

from fxprune.size_decisions import SizeOf, Source, Term

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fxprune.size_decisions import Notes

aten = torch.ops.aten
Spot: TypeAlias = tuple[int, int]
"""A number in a graph: the number of its node, and its number among the leaves of the arguments."""
_INFERS = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
_HIGHEST_DEGREE = 3


@dataclass(frozen=True)
class Record:
    """A node's computation, recorded at one choice of sizes.

    Attributes:
        graph: ATen operators; the placeholders are the operands, then the state.
        constants: tensors that the computation made of nothing.
        notes: what the code computed of sizes and decided by them.
    """

    graph: fx.Graph
    constants: dict[str, torch.Tensor]
    notes: Notes

    def copy(self) -> Record:
        """The same record with a graph of its own."""
        return Record(copy.deepcopy(self.graph), self.constants, self.notes)

    def size(self, of: SizeOf) -> int:
        """The size of a dim of a node."""
        return self._shapes[of.node][of.dim]

    @cached_property
    def _shapes(self) -> dict[str, Sequence[int]]:
        return {node.name: node.meta["val"].shape for node, _ in self.dims}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of all dims of all tensors in the order of the graph, so operands first."""
        return tuple(node.meta["val"].shape[dim] for node, dim in self.dims)

    @cached_property
    def dims(self) -> list[tuple[fx.Node, int]]:
        """Node and dim of each size."""
        tensors = [n for n in self.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)]
        return [(node, dim) for node in tensors for dim in range(node.meta["val"].dim())]


@dataclass(frozen=True)
class Product:
    """A number as a factor times sizes (indices into `Record.sizes`)."""

    factor: Fraction
    sizes: tuple[int, ...]


class Inferred:
    """A number that torch works out: -1."""


Formula: TypeAlias = Product | Inferred


def formulas(records: Sequence[Record], usable: Sequence[int]) -> dict[Spot, Formula] | None:
    """What every number that differs between records is made of.

    Args:
        records: the same computation at several choices of sizes.
        usable: the sizes of operands, those that a formula should rather read first.

    Returns:
        None if the records differ in another way than by numbers, or by numbers without formula.
    """
    varying: set[Spot] = set()
    for other in records[1:]:
        differing = _differences(records[0], other)
        if differing is None:
            return None
        varying |= differing
    nodes = [list(record.graph.nodes) for record in records]
    found: dict[Spot, Formula] = {}
    for node, spots in itertools.groupby(sorted(varying), operator.itemgetter(0)):
        chosen = list(spots)
        for spot in chosen:
            values = [leaves_of(graph[node])[spot[1]] for graph in nodes]
            formula = _formula(nodes[0][node], len(chosen), values, records, usable)
            if formula is None:
                return None
            found[spot] = formula
    return found


def _formula(
    node: fx.Node, count: int, values: list[int], records: Sequence[Record], usable: Sequence[int]
) -> Formula | None:
    """How a number follows from sizes.

    1. The only dynamic number of a view is worked out by torch.
    2. It is a multiple of a product of operand sizes.
    3. It is the size of a tensor that was made before.
    """
    if count == 1 and node.target in _INFERS and -1 not in leaves_of(node):
        return Inferred()
    sizes = [record.sizes for record in records]
    product = _product(values, sizes, usable)
    if product is not None:
        return product
    earlier = itertools.takewhile(lambda n: n is not node, node.graph.nodes)
    known = set(earlier)
    for index, (source, _) in enumerate(records[0].dims):
        if source in known and [row[index] for row in sizes] == values:
            return Product(Fraction(1), (index,))
    return None


def leaves_of(node: fx.Node) -> list[Any]:
    """Nodes and constants in the arguments of a node, in a fixed order."""
    return pytree.tree_leaves((node.args, node.kwargs), is_leaf=lambda v: v is None)


def _differences(one: Record, two: Record) -> set[Spot] | None:
    """Where two records have different integers; None if anything else differs."""
    left, right = list(one.graph.nodes), list(two.graph.nodes)
    if len(left) != len(right) or one.constants.keys() != two.constants.keys():
        return None
    if not all(torch.equal(one.constants[name], two.constants[name]) for name in one.constants):
        return None
    position = {node: k for nodes in (left, right) for k, node in enumerate(nodes)}
    found: set[Spot] = set()
    for number, (a, b) in enumerate(zip(left, right, strict=True)):
        x, y = leaves_of(a), leaves_of(b)
        if (a.op, a.target, len(x)) != (b.op, b.target, len(y)):
            return None
        for k, (p, q) in enumerate(zip(x, y, strict=True)):
            if isinstance(p, fx.Node) and isinstance(q, fx.Node):
                if position[p] != position[q]:
                    return None
            elif type(p) is type(q) is int:
                found |= {(number, k)} if p != q else set()
            elif type(p) is not type(q) or p != q:
                return None
    return found


def _product(
    values: Sequence[int], sizes: Sequence[tuple[int, ...]], usable: Sequence[int]
) -> Product | None:
    """The product of the fewest sizes that a number is a fixed multiple of."""
    changing: dict[tuple[int, ...], int] = {}
    for index in usable:
        column = tuple(row[index] for row in sizes)
        if len(set(column)) > 1:
            changing.setdefault(column, index)
    for degree in range(1, _HIGHEST_DEGREE + 1):
        for columns in itertools.combinations_with_replacement(changing, degree):
            products = [math.prod(row) for row in zip(*columns, strict=True)]
            if not all(products):
                continue
            factors = {Fraction(v, p) for v, p in zip(values, products, strict=True)}
            if len(factors) == 1:
                return Product(factors.pop(), tuple(changing[column] for column in columns))
    return None


def fitted(
    values: Sequence[float], records: Sequence[Record], usable: Sequence[int]
) -> Source | None:
    """What a number is taken to be that has these values in records: a constant or a product."""
    if len(set(values)) == 1:
        return values[0]
    whole = [int(value) for value in values]
    product = _product(whole, [record.sizes for record in records], usable)
    if whole != list(values) or product is None:
        return None
    nodes = [(node.name, dim) for node, dim in records[0].dims]
    result: Source = SizeOf(*nodes[product.sizes[0]])
    for function, operand in _arithmetic(product):
        other = SizeOf(*nodes[operand.index]) if isinstance(operand, _Size) else operand
        result = Term(function, result, other)
    return result


def write(record: Record, spots: dict[Spot, Formula]) -> None:
    """Replace numbers of a record by what their formulas compute from sizes."""
    graph, nodes = record.graph, list(record.graph.nodes)
    dims = record.dims
    reads: dict[int, fx.Node] = {}
    for index in sorted({i for f in spots.values() if isinstance(f, Product) for i in f.sizes}):
        source = dims[index][0]
        first = next(n for n in nodes[nodes.index(source) + 1 :] if n.op != "placeholder")
        with graph.inserting_before(first):
            reads[index] = graph.call_function(aten.sym_size.int, dims[index])
    for (number, leaf), formula in spots.items():
        node = nodes[number]
        with graph.inserting_before(node):
            new = -1 if isinstance(formula, Inferred) else _computed(graph, formula, reads)
        leaves, structure = pytree.tree_flatten(
            (node.args, node.kwargs), is_leaf=lambda v: v is None
        )
        leaves[leaf] = new
        node.args, node.kwargs = pytree.tree_unflatten(leaves, structure)


def _computed(graph: fx.Graph, formula: Product, reads: dict[int, fx.Node]) -> fx.Node:
    steps = [*_arithmetic(formula)]
    result = reads[formula.sizes[0]]
    for function, operand in steps:
        other = reads[operand.index] if isinstance(operand, _Size) else operand
        result = graph.call_function(function, (result, other))
    return result


@dataclass(frozen=True)
class _Size:
    index: int


def _arithmetic(formula: Product) -> Iterator[tuple[Any, int | _Size]]:
    for index in formula.sizes[1:]:
        yield operator.mul, _Size(index)
    if formula.factor.numerator != 1:
        yield operator.mul, formula.factor.numerator
    if formula.factor.denominator != 1:
        yield operator.floordiv, formula.factor.denominator
