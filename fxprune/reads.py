"""What reads what: the positions of operands that count for the outcome of an operator.

One run of the original with unknown inputs tells all of it. A position that is summed over counts
where what it is multiplied with is not zero; one that is looked across otherwise, where it is not
zero itself. Of a value that does not depend on the inputs it is enough that it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.rules.convolution import transposed_channels
from fxprune.unknowns import UnknownMode

if TYPE_CHECKING:
    from fxprune.labels import Axis, Ids, LabelAlgebra
    from fxprune.precision import Precision
    from fxprune.products import Product
    from fxprune.rules import Call, Rule

aten = torch.ops.aten
Mask: TypeAlias = NDArray[np.bool_]
Vectors: TypeAlias = tuple["Ids", ...]
_PRODUCTS = {
    aten.linear.default: ("input", "", "weight", "rp"),
    aten.mm.default: ("self", "np", "mat2", "pr"),
    aten.addmm.default: ("mat1", "np", "mat2", "pr"),
    aten.bmm.default: ("self", "bnp", "mat2", "bpr"),
    aten.baddbmm.default: ("batch1", "bnp", "batch2", "bpr"),
    aten.mv.default: ("self", "np", "vec", "p"),
    aten.dot.default: ("self", "p", "tensor", "p"),
    aten.vdot.default: ("self", "p", "other", "p"),
}
"""Both operands of a product and their dims, as in an einsum that sums over p."""


@dataclass(frozen=True)
class Read:
    """The positions of an axis that an operator reads.

    A position counts if, at some place that stays, all factors are true.

    Attributes:
        spec: the dims of each factor; the position is p.
        factors: what has to be true, of a position and of the places around it.
        axes: the label vectors of each dim.
    """

    spec: tuple[str, ...]
    factors: tuple[Mask, ...]
    axes: dict[str, Vectors]

    def ids(self, stays: Mask) -> Ids:
        """The ids of the positions that count while these ids stay."""
        others = sorted({letter for dims in self.spec for letter in dims} - {"p"})
        masks = [np.logical_and.reduce([stays[v] for v in self.axes[letter]]) for letter in others]
        spec = f"{','.join([*self.spec, *others])}->p"
        counts = np.einsum(spec, *self.factors, *masks, optimize=True)
        return np.unique(np.concatenate([vector[counts] for vector in self.axes["p"]]))


def spread(reads: Sequence[Read], stays: Mask) -> Mask:
    """All ids that are to stay if these do, because what stays reads them."""
    stays = stays.copy()
    while True:
        before = int(stays.sum())
        for read in reversed(reads):
            stays[read.ids(stays)] = True
        if int(stays.sum()) == before:
            return stays


@dataclass(frozen=True)
class Operand:
    """A tensor, or which of its places are of interest, with its dims as letters."""

    tensor: torch.Tensor
    dims: str
    axes: Sequence[Axis]


class ReadsMode(UnknownMode):
    """Notes what the operators of the original read.

    Attributes:
        varying: reads of what depends on the inputs.
        constants: reads of constants that no bias could take up.
    """

    def __init__(self, labels: LabelAlgebra, precision: Precision) -> None:
        super().__init__(labels, _nothing, precision, "exact")
        self.count = len(labels)  # what a run unites or splits on its way is no plan's concern
        self.varying: list[Read] = []
        self.constants: list[Read] = []

    def read(self, call: Call, rule: Rule, product: Product, weight: torch.Tensor) -> None:
        """Zeros of a weight hide what they are multiplied with; biases take up constants."""
        if product.mixes:
            x, other = operands(call)
            self.note(self.varying, self.varies(x), self.is_nonzero(other))

    def read_otherwise(self, call: Call, rule: Rule) -> None:
        """The other operand of a product hides as well; all else shows whatever is not zero."""
        if call.op in _PRODUCTS:
            x, other = operands(call)
            self.note(self.varying, self.varies(x), self.is_nonzero(other))
            self.note(self.varying, self.is_nonzero(x), self.varies(other))
            self.note(self.constants, self.is_constant(x), self.is_constant(other))
            return
        for name, dim in (*rule.sums(call), *rule.normalizes(call)):
            x = _summed(call, name, dim)
            self.note(self.varying, self.varies(x))
            self.note(self.constants, self.is_constant(x))

    def varies(self, operand: Operand) -> Operand:
        """The places that depend on the inputs; all of integers that do, for these have no NaN."""
        tensor = operand.tensor
        return replace(operand, tensor=tensor.isnan() | self.is_unknown(tensor))

    def is_nonzero(self, operand: Operand) -> Operand:
        """The places that are not known to be zero."""
        tensor = operand.tensor
        return replace(operand, tensor=(tensor != 0) | self.is_unknown(tensor))

    def is_constant(self, operand: Operand) -> Operand:
        """The places that are known, and not zero."""
        known = ~self.varies(operand).tensor
        return replace(operand, tensor=known & (operand.tensor != 0))

    def note(self, reads: list[Read], *operands: Operand) -> None:
        """Note a read of what all operands are true of, if there are labels and it is anything."""
        axes: dict[str, Vectors] = {}
        for operand in operands:
            for letter, axis in zip(operand.dims, operand.axes, strict=True):
                if vectors := self.labels.leaves(axis):
                    axes.setdefault(letter, tuple(np.where(v < self.count, v, 0) for v in vectors))
        if "p" not in axes:
            return
        factors = []
        for operand in operands:
            others = [k for k, letter in enumerate(operand.dims) if letter not in axes]
            factor = operand.tensor.any(others) if others else operand.tensor
            factors.append(factor.cpu().numpy())
        spec = tuple("".join(c for c in operand.dims if c in axes) for operand in operands)
        if all(factor.any() for factor in factors):
            reads.append(Read(spec, tuple(factors), axes))


def _nothing(axis: Axis) -> Mask:
    return np.zeros(axis.size, dtype=np.bool_)


def _summed(call: Call, name: str, dim: int) -> Operand:
    """An operand of which one dim is summed over."""
    tensor = call.arg(name)
    dims = [chr(ord("A") + k) for k in range(tensor.dim())]
    dims[dim] = "p"
    return Operand(tensor, "".join(dims), call.axes(name))


def columns_read(call: Call, rows: torch.Tensor) -> torch.Tensor:
    """The channels of a value that a product with a weight reads for some rows of the weight."""
    _, weight = operands(call)
    row, column = weight.dims.index("r"), weight.dims.index("p")
    read = weight.tensor.index_select(row, rows) != 0
    return read.movedim(column, 0).flatten(1).any(1)


def operands(call: Call) -> tuple[Operand, Operand]:
    """The operands of a product, the one whose positions are read first."""
    if call.op is aten.convolution.default:
        return _of_convolution(call)
    name, dims, other, others = _PRODUCTS[call.op]
    x = Operand(call.arg(name), dims, call.axes(name)) if dims else _summed(call, name, -1)
    return x, Operand(call.arg(other), others, call.axes(other))


def _of_convolution(call: Call) -> tuple[Operand, Operand]:
    """Input and weight, the latter as a matrix of all outputs and all inputs."""
    x, axes = _summed(call, "input", 1), call.axes("weight")
    taps = (call.arg("weight") != 0).flatten(2).any(2)
    groups = torch.arange(call.arg("groups"))
    blocks = taps.reshape(len(groups), -1, taps.shape[1])
    matrix = taps.new_zeros(len(groups), blocks.shape[1], len(groups), blocks.shape[2])
    matrix[groups, :, groups] = blocks
    matrix = matrix.reshape(len(taps), -1)
    if call.arg("transposed"):
        channels = transposed_channels(call.labels, axes, len(groups))
        return x, Operand(matrix, "pr", (x.axes[1], channels))
    return x, Operand(matrix, "rp", (axes[0], x.axes[1]))
