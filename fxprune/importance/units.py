"""What the channels of a group are made by and read with, side by side.

The stored tensors on whose axes a group occurs are of two sides: *readers*, along a dim that a
product sums over, and all others, which *make* the channels (rows of weights, biases, scales, the
kernels of depthwise convolutions). Of a weight that is reshaped, so that what is summed over is no
dim of its own, the dims that it may be are on neither side. Where a batch norm alone reads a
product, its scale and shift belong to the rows of that: they are w * s and
(b - mean) * s + shift, s = scale / std.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.errors import InputError

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group, Member
    from fxprune.weight_uses import NormUse, WeightUse

ValueOf: TypeAlias = Callable[[str], torch.Tensor]
_PIECE = 1 << 22
"""How many elements of rows are compared at once."""
_BLOCK = 1 << 8
"""How many channels' distances to all others are computed at once."""


@dataclass(frozen=True)
class Normed:
    """A weight whose products nothing but one batch norm reads, which reads nothing else.

    Attributes:
        rows: the dim of the weight that the batch norm goes along.
        bias: the name of the product's bias, or nothing.
        norm: the batch norm.
    """

    rows: int
    bias: str
    norm: NormUse

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors beside the weight that tell what a row computes."""
        norm = self.norm
        return tuple(filter(None, (self.bias, norm.weight, norm.bias, norm.mean, norm.variance)))

    def scale(self, value: ValueOf) -> torch.Tensor:
        """What the batch norm multiplies each channel by, in float64."""
        scale = (value(self.norm.variance).double() + self.norm.eps).rsqrt()
        return scale * value(self.norm.weight).double() if self.norm.weight else scale

    def shift(self, value: ValueOf) -> torch.Tensor:
        """What the two add to each channel, in float64."""
        shift = -value(self.norm.mean).double()
        if self.bias:
            shift = shift + value(self.bias).double()
        shift = shift * self.scale(value)
        return shift + value(self.norm.bias).double() if self.norm.bias else shift


@dataclass(frozen=True)
class Sides:
    """Which side the dims of stored tensors are on.

    Attributes:
        read: the dims that products sum over, for the name of each tensor that has any.
        mixed: those of them that other operators use otherwise.
        unclear: the dims that products may sum over, of weights that are reshaped before.
        normed: the weights with a batch norm of their own.
    """

    read: dict[str, set[int]]
    mixed: set[tuple[str, int]]
    unclear: set[tuple[str, int]]
    normed: dict[str, Normed]

    @classmethod
    def of(cls, deps: DependencyGraph) -> Sides:
        """The sides in an analyzed model."""
        read: dict[str, set[int]] = {}
        other: set[tuple[str, int]] = set()
        unclear: set[tuple[str, int]] = set()
        for use in deps.trace.uses.uses:
            stored = deps.state[use.name]
            unclear.update((use.name, dim) for dim in use.unclear(stored))
            for dim in range(len(use.size)):
                along = use.dim_of(stored, dim)
                if dim == use.summed and along is not None:
                    read.setdefault(use.name, set()).add(along)
                elif along is not None:
                    other.add((use.name, along))
                elif use.size[dim] > 1:  # it may run along any
                    other.update((use.name, any_dim) for any_dim in range(stored.dim()))
        mixed = {(name, dim) for name, dims in read.items() for dim in dims} & other
        return cls(read, mixed, unclear, dict(_normed(deps)))

    def reads(self, member: Member) -> bool:
        """Whether products sum over a parameter axis."""
        return member.dim in self.read.get(member.parameter, ())

    def makes(self, member: Member) -> bool:
        """Whether the channels along a parameter axis are made by what is there."""
        is_clear = (member.parameter, member.dim) not in self.unclear
        return is_clear and not self.reads(member)

    def taken_up(self) -> dict[str, str]:
        """The tensors that belong to the rows of a weight, with the weight."""
        return {name: weight for weight, own in self.normed.items() for name in own.names}


def _normed(deps: DependencyGraph) -> Iterator[tuple[str, Normed]]:
    """Weights with a batch norm of their own."""
    found = deps.trace.uses
    times = Counter(use.name for use in found.uses)
    for norm in found.norms:
        if norm.of is None or found.taken[norm.of] != 1:
            continue
        use: WeightUse = found.uses[norm.of]
        stored = deps.state[use.name]
        made = Normed(use.rows or 0, use.bias, norm)
        rows = use.dim_of(stored, made.rows)
        beside = {*made.names}
        is_whole = rows is not None and stored.shape[rows] == deps.state[norm.mean].shape[0]
        alone = all(times[name] == 1 for name in (use.name, *beside))
        if rows is not None and is_whole and alone and len(beside) == len(made.names):
            yield use.name, Normed(rows, use.bias, norm)


def stored_values(deps: DependencyGraph) -> ValueOf:
    """Where the values of parameters and buffers are.

    Raises (when called):
        InputError: a tensor has no data.
    """

    def value(name: str) -> torch.Tensor:
        own = deps.state[name]
        tensor = own if deps.weights is None else deps.weights.get(name, own)
        if tensor.device.type == "meta":
            raise InputError(
                f"{name} has no data",
                hint="load the weights, or pass weights= to fxprune.plan",
            )
        return tensor.detach()

    return value


def places(member: Member, size: int) -> NDArray[np.int64]:
    """For each channel of a group its positions along a parameter axis, filled up with -1: [n, m].

    Args:
        member: the parameter axis.
        size: of the group.
    """
    order = np.argsort(member.channels, kind="stable")
    order = order[np.count_nonzero(member.channels < 0) :]
    channels = member.channels[order]
    counts = np.bincount(channels, minlength=size)
    table = np.full((size, max(int(counts.max(initial=0)), 1)), -1, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    table[channels, np.arange(len(order)) - starts[channels]] = order
    return table


@dataclass(frozen=True)
class Compared:
    """The channels of a group, compared by what they are made by.

    Attributes:
        distances: the squares of the Euclidean distances between their rows, [n, n] in float64;
            infinite where rows are of different kinds.
        squares: the squares of the norms of their rows, [n].
        masses: the squares of the norms of what they are read with, [n]; ones if no product with a
            stored weight reads any.
    """

    distances: NDArray[np.float64]
    squares: NDArray[np.float64]
    masses: NDArray[np.float64]

    @property
    def positive_masses(self) -> NDArray[np.float64]:
        """The same, where those that are next to nothing are not nothing, so that means exist."""
        raised: NDArray[np.float64] = np.maximum(self.masses, 1e-12 * self.masses.max())
        return raised


def compared(group: Group, sides: Sides, value: ValueOf) -> Compared:
    """Compare the channels of a group; all that makes them counts, side by side."""
    n = group.size
    gram = torch.zeros(n, n, dtype=torch.float64)
    masses = torch.zeros(n, dtype=torch.float64)
    alike = np.ones((n, n), dtype=np.bool_)
    taken_up = sides.taken_up()
    for member in group.members:
        table = places(member, n)
        counts = (table >= 0).sum(1)
        alike &= counts[:, None] == counts
        if member.parameter in taken_up or not (sides.reads(member) or sides.makes(member)):
            continue
        for rows in _rows(member, sides, value):
            own = _of_channels(rows, torch.from_numpy(table))
            if sides.reads(member):
                masses += own.square().sum(1).cpu()
            else:
                for part in own.split(max(_PIECE // max(n, 1), 1), dim=1):
                    gram += (part @ part.T).cpu()
    squares = gram.diagonal().clone()
    for part, own in zip(gram.split(_BLOCK), squares.split(_BLOCK), strict=True):
        both = own[:, None] + squares
        part.mul_(-2).add_(both)
        part[part < 1e-13 * both] = 0  # rounding
    found = gram.numpy()  # distances now
    found[~alike] = np.inf
    np.fill_diagonal(found, 0)
    if not masses.any():
        masses = torch.ones_like(masses)
    return Compared(found, squares.numpy(), masses.numpy())


def _rows(member: Member, sides: Sides, value: ValueOf) -> Iterator[torch.Tensor]:
    """What a stored tensor has at each position of an axis, [positions, numbers]."""
    weights = value(member.parameter)
    weights = torch.view_as_real(weights) if weights.is_complex() else weights
    weights = weights.double()
    normed = sides.normed.get(member.parameter)
    if normed is not None:
        along = [1] * weights.dim()
        along[normed.rows] = -1
        weights = weights * normed.scale(value).view(along)
    yield weights.movedim(member.dim, 0).flatten(1) if weights.dim() > 1 else weights[:, None]
    if normed is not None and normed.rows == member.dim:
        yield normed.shift(value)[:, None]


def _of_channels(rows: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The rows at the positions of each channel, [n, m * numbers]."""
    padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    return padded[table.to(rows.device)].flatten(1)
