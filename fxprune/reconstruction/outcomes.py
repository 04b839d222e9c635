"""What products and norms yield before and after a repair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from fxprune.readings.moments import Moments
from fxprune.readings.parts import Outcome, in_blocks
from fxprune.readings.products import Read
from fxprune.readings.runs import other_ways
from fxprune.reconstruction.results import Repair

WORSE = "the outcome is better without a repair"
_ROUNDING = 1e-12
"""The share of the squares of an outcome up to which its variance is taken for rounding."""


@dataclass
class Compared:
    """What is yielded in the original and in the pruned model, at the channels that are kept.

    Attributes:
        error: the sum over rows of the squares of the difference between outcomes.
        count: how many rows there are.
        total: the sums of the original's outcomes, by channel.
        squares: the sums of their squares.
        missing: the sums of what is missing now, by channel.
    """

    error: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor
    squares: torch.Tensor
    missing: torch.Tensor

    @classmethod
    def nothing(cls, read: Outcome) -> Compared:
        """Sums of nothing yet."""
        rows = read.out.new_zeros(read.out.shape[1], dtype=torch.float64)
        zero = rows.new_zeros(())
        return Compared(zero, zero.clone(), rows, rows.clone(), rows.clone())

    def compare(self, before: Outcome, now: Outcome) -> None:
        """Take in what is yielded in a batch."""
        self.count += len(before.out)
        for out, other in in_blocks(before.out, now.out):
            self.take(out, other)

    def take(self, out: torch.Tensor, now: torch.Tensor) -> None:
        """Take in rows of what is yielded, in float64."""
        missing = out - now
        self.error += missing.square().sum()
        self.total += out.sum(0)
        self.squares += out.square().sum(0)
        self.missing += missing.sum(0)

    def tensors(self) -> list[torch.Tensor]:
        """All sums."""
        return [self.error, self.count, self.total, self.squares, self.missing]

    def error_with(self, constant: torch.Tensor) -> torch.Tensor:
        """The error if a constant is added to what is yielded now, by channel."""
        return self.error - (constant * (2 * self.missing - self.count * constant)).sum()

    def relative(self, error: torch.Tensor) -> float:
        """An error as a share of the variance of what the original yields."""
        spread = (self.squares - self.total.square() / self.count).sum()
        spread = torch.maximum(spread, _ROUNDING * self.squares.sum())
        return float(error / spread) if spread > 0 else float(error > 0)


@dataclass
class Measured(Compared):
    """What a product read and yielded, in the original and in the pruned model.

    Attributes:
        read: what it is, without values.
        moments: of what it read, for each group of a convolution; none if weights stay.
    """

    read: Read
    moments: list[Moments]

    @classmethod
    def of(cls, read: Read, *, with_moments: bool) -> Measured:
        """Nothing yet."""
        stays = torch.from_numpy(~read.gone).to(read.x.device).chunk(read.groups)
        dtype = read.x.dtype
        made = [Moments(part.nonzero().flatten(), len(part), dtype) for part in stays]
        alone = replace(read, x=read.x.new_empty(0, len(read.gone)), out=read.out.new_empty(0, 0))
        sums = vars(Compared.nothing(read))
        return cls(**sums, read=alone, moments=made if with_moments else [])

    def add(self, before: Read, now: Read) -> None:
        """Take in a batch."""
        same = before.x.shape == now.x.shape and np.array_equal(before.gone, now.gone)
        if not same or before.part != now.part or before.gone.shape != self.read.gone.shape:
            raise other_ways()
        if self.moments:
            x, times = before.read_rows(before.x)
            z, _ = before.read_rows(now.x)
            for moments, own, kept in zip(
                self.moments, x.chunk(now.groups, 1), z.chunk(now.groups, 1), strict=True
            ):
                moments.add(own, kept[:, moments.kept], times)
        self.compare(before, now)

    def tensors(self) -> list[torch.Tensor]:
        """All sums."""
        return [*super().tensors(), *(t for each in self.moments for t in each.tensors())]


@dataclass(frozen=True)
class Move:
    """Another value of a part of the stored tensors.

    Attributes:
        view: that part.
        old: its values before.
        new: its values after.
    """

    view: torch.Tensor
    old: torch.Tensor
    new: torch.Tensor

    @classmethod
    def at(cls, view: torch.Tensor, rows: torch.Tensor, more: torch.Tensor) -> Move:
        """Something is added at some positions of a vector, and elsewhere it stays."""
        flat = view.reshape(-1).clone()
        flat[rows] = (flat[rows].double() + more.to(flat.device)).to(flat)
        return cls(view, view.clone(), flat.reshape(view.shape))

    def put(self, *, back: bool = False) -> None:
        """Put the new values, or the old ones again."""
        self.view.copy_(self.old if back else self.new)

    def step(self, rows: torch.Tensor) -> torch.Tensor:
        """What was really added at some positions of a vector, after rounding."""
        return (self.new.double() - self.old.double()).reshape(-1)[rows]


@dataclass(frozen=True)
class Change:
    """What a repair does to a product or a norm.

    Attributes:
        told: of it, but for how well it went.
        moves: of stored tensors.
        outside: what is added to the kept channels of the outcome after it.
    """

    told: Repair
    moves: list[Move]
    outside: torch.Tensor

    def put(self, *, back: bool = False) -> None:
        """Put the new values, or the old ones again."""
        for move in self.moves:
            move.put(back=back)


def judged(change: Change, found: Compared, after: Compared) -> Repair:
    """What became of a repair; it is taken back if the outcome was better without it."""
    error = after.error_with(change.outside)
    before = found.relative(found.error)
    if error <= found.error:
        return replace(change.told, before=before, after=found.relative(error))
    change.put(back=True)
    return replace(change.told, before=before, after=before, why=WORSE, intercept="", tensors=())
