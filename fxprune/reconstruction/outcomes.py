"""What products and norms yield before and after a repair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from fxprune.readings.moments import Moments
from fxprune.readings.parts import Outcome
from fxprune.readings.products import Read
from fxprune.readings.runs import other_ways
from fxprune.reconstruction.results import Repair


@dataclass
class Compared:
    """What is yielded in the original and in the pruned model.

    Attributes:
        error: the sum over rows of the squares of the difference between outcomes.
        count: how many rows there are.
        total: the sums of the original's outcomes, by channel.
        squares: the sums of their squares.
    """

    error: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor
    squares: torch.Tensor

    def compare(self, before: Outcome, now: Outcome) -> None:
        """Take in what is yielded in a batch."""
        out = before.out.double()
        self.error += (now.out.double() - out).square().sum()
        self.count += len(out)
        self.total += out.sum(0)
        self.squares += out.square().sum(0)

    def tensors(self) -> list[torch.Tensor]:
        """All sums."""
        return [self.error, self.count, self.total, self.squares]

    def relative(self, error: torch.Tensor) -> float:
        """An error as a share of the variance of what the original yields."""
        spread = (self.squares - self.total.square() / self.count).sum()
        return float(error / spread) if spread > 0 else float(error > 0)


@dataclass
class Measured(Compared):
    """What a product read and yielded, in the original and in the pruned model.

    Attributes:
        read: what it is, without values.
        moments: of what it read, for each group of a convolution.
    """

    read: Read
    moments: list[Moments]

    @classmethod
    def of(cls, read: Read) -> Measured:
        """Nothing yet."""
        stays = torch.from_numpy(~read.gone).to(read.x.device).chunk(read.groups)
        moments = [Moments(part.nonzero().flatten(), len(part)) for part in stays]
        alone = replace(read, x=read.x.new_empty(0, len(read.gone)), out=read.out.new_empty(0, 0))
        return cls(*zeros_for(read), alone, moments)

    def add(self, before: Read, now: Read) -> None:
        """Take in a batch."""
        same = before.x.shape == now.x.shape and np.array_equal(before.gone, now.gone)
        if not same or before.part != now.part or before.gone.shape != self.read.gone.shape:
            raise other_ways()
        groups = zip(
            self.moments, before.x.chunk(now.groups, 1), now.x.chunk(now.groups, 1), strict=True
        )
        for moments, x, z in groups:
            moments.add(x, z[:, moments.kept])
        self.compare(before, now)

    def tensors(self) -> list[torch.Tensor]:
        """All sums."""
        return [*super().tensors(), *(t for each in self.moments for t in each.tensors())]


def zeros_for(read: Outcome) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums of nothing, for what `Compared` adds up."""
    rows = read.out.new_zeros(read.out.shape[1], dtype=torch.float64)
    zero = rows.new_zeros(())
    return zero, zero.clone(), rows, rows.clone()


@dataclass(frozen=True)
class Change:
    """What a repair does to a product or a norm.

    Attributes:
        told: of it, but for how well it went.
        values: views of stored tensors, with their old and new values.
        outside: what is added to the kept channels of the outcome after it.
    """

    told: Repair
    values: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    outside: torch.Tensor

    def put(self, *, back: bool = False) -> None:
        """Put the new values, or the old ones again."""
        for view, old, new in self.values:
            view.copy_(old if back else new)

    def error(self, before: Outcome, now: Outcome) -> torch.Tensor:
        """The sum of the squares of the difference between outcomes in a batch."""
        return (now.out.double() + self.outside - before.out.double()).square().sum()


def judged(change: Change, found: Compared, error: torch.Tensor) -> Repair:
    """What became of a repair; it is taken back if the outcome was better without it."""
    before, after = found.relative(found.error), found.relative(error)
    if error <= found.error:
        return replace(change.told, before=before, after=after)
    change.put(back=True)
    why = "the outcome is better without a repair"
    return replace(change.told, before=before, after=before, why=why, intercept="", tensors=())
