"""Repairing norms: their scale and shift in closed form, or their running statistics anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from fxprune.readings.moments import penalty, steady
from fxprune.readings.parts import in_blocks
from fxprune.readings.runs import other_ways
from fxprune.reconstruction.outcomes import Change, Compared, Move
from fxprune.reconstruction.results import Repair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fxprune.readings.parts import Part
    from fxprune.readings.products import Uses
    from fxprune.reconstruction.norm_reads import NormRead, Origin


@dataclass(frozen=True)
class Line:
    """What turns what is yielded now into what was: `factor * z + constant`, channel by channel."""

    factor: torch.Tensor
    constant: torch.Tensor


@dataclass
class NormMeasured(Compared):
    """What a norm read and yielded, in the original and in the pruned model.

    Attributes:
        read: what it is, without values.
        z: the sums of what it yields now, by channel.
        zz: the sums of its squares.
        yz: the sums of its products with what the original yields.
        x: the sums of what it reads now, if that is needed.
        xx: the sums of its squares.
    """

    read: NormRead
    z: torch.Tensor
    zz: torch.Tensor
    yz: torch.Tensor
    x: torch.Tensor
    xx: torch.Tensor

    @classmethod
    def of(cls, read: NormRead) -> NormMeasured:
        """Nothing yet."""
        alone = replace(read, x=read.x.new_empty(0, 0), out=read.out.new_empty(0, 0))
        sums = Compared.nothing(read)
        z, zz, yz, x, xx = (torch.zeros_like(sums.total) for _ in range(5))
        return cls(**vars(sums), read=alone, z=z, zz=zz, yz=yz, x=x, xx=xx)

    def add(self, before: NormRead, now: NormRead) -> None:
        """Take in a batch."""
        same = before.out.shape == now.out.shape and np.array_equal(before.gone, now.gone)
        if not same or before.part != now.part or before.gone.shape != self.read.gone.shape:
            raise other_ways()
        self.compare(before, now)
        for (x,) in in_blocks(now.x) if now.statistics is not None else ():
            self.x += x.sum(0)
            self.xx += x.square().sum(0)

    def take(self, out: torch.Tensor, now: torch.Tensor) -> None:
        """Take in rows of what is yielded, in float64."""
        super().take(out, now)
        self.z += now.sum(0)
        self.zz += now.square().sum(0)
        self.yz += (out * now).sum(0)

    def tensors(self) -> list[torch.Tensor]:
        """All sums."""
        return [*super().tensors(), self.z, self.zz, self.yz, self.x, self.xx]

    def is_finite(self) -> bool:
        """Whether all that was measured is a number."""
        return all(bool(tensor.isfinite().all()) for tensor in self.tensors())

    def line(self, ridge: float | None, *, with_constant: bool) -> Line:
        """The regression of what was yielded on what is: one for each channel.

        With y what the original yields and z what is yielded now, `factor` and `constant` minimize
        sum (y - factor z - constant)^2 + ridge * level * (factor - 1)^2 over rows, where level is
        the mean over channels of the (centred) second moments of z. So they are never worse than 1
        and 0. The factor of a channel that does not vary is 1.

        Args:
            ridge: the penalty.
            with_constant: whether there is one; else moments are not centred.
        """
        second, shared = self.zz, self.yz
        if with_constant:
            second = second - self.z.square() / self.count
            shared = shared - self.z * self.total / self.count
        varies = second > steady(self.read.out.dtype) * self.zz
        level = second.clamp(min=0).mean() if len(second) else second.sum()
        step = (shared - second) / torch.where(
            varies, second + penalty(ridge, 1, self.count) * level, 1.0
        )
        factor = 1 + torch.where(varies, step, 0.0)
        constant = (self.total - factor * self.z) / self.count
        return Line(factor, constant if with_constant else torch.zeros_like(constant))

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the unbiased variance of what is read now, over all rows."""
        mean = self.x / self.count
        spread = (self.xx - self.count * mean.square()).clamp(min=0)
        return mean, spread / (self.count - 1)


def left(found: NormMeasured, node: str, uses: Uses) -> Repair | None:
    """Why a norm stays as it is, if it does."""
    why = found.read.why or _not_alone(found.read, uses)
    if not why and not found.is_finite():
        why = "what it reads or yields is not finite"
    return told(found.read, node, why) if why else None


def _not_alone(read: NormRead, uses: Uses) -> str:
    if read.statistics is not None:
        named = [("running statistics", part) for part in read.statistics]
    else:
        named = [
            (what, origin.part)
            for what, origin in (("scale", read.scale), ("shift", read.shift))
            if origin is not None
        ]
    for what, part in named:
        if not uses.is_alone(part):
            verb = "are" if what.endswith("s") else "is"
            return f"its {what} {verb} used elsewhere"
        if part.name in uses.written:
            return f"forward writes into its {what}"
    return ""


def told(read: NormRead, node: str, why: str = "") -> Repair:
    """What is told of a norm."""
    kept = int((~read.gone).sum())
    return Repair(read.name, node, len(read.gone), kept, kind="norm", why=why)


def change(
    node: str,
    found: NormMeasured,
    uses: Uses,
    state: Mapping[str, torch.Tensor],
    ridge: float | None,
) -> Change:
    """How a norm is to be: with other running statistics, or with another scale and shift.

    Args:
        node: that it runs in.
        found: what was measured of it.
        uses: what the model does with its tensors.
        state: the tensors of the pruned model.
        ridge: see `NormMeasured.line`.
    """
    if found.read.statistics is not None:
        return _reestimated(node, found, found.read.statistics, state)
    return _refitted(node, found, uses, state, ridge)


def _refitted(
    node: str,
    found: NormMeasured,
    uses: Uses,
    state: Mapping[str, torch.Tensor],
    ridge: float | None,
) -> Change:
    read, rows = found.read, found.read.kept_rows
    assert read.scale is not None
    stored = read.scale.part
    taker = uses.taker(stored)
    line = found.line(ridge, with_constant=taker is not None)
    # what is not stored of a vector, as the 1 of 1 + weight, is scaled in what is
    more = (line.factor - 1) * _effective(read, read.scale, state)
    moves = [Move.at(stored.of(state), rows, more)]
    outside = torch.zeros_like(line.constant)
    if taker is not None:
        more = taker.sign * line.constant
        if taker.is_inside and read.shift is not None:
            more = more + (line.factor - 1) * _effective(read, read.shift, state)
        else:
            outside = line.constant
        moves.append(Move.at(taker.part.of(state), rows, more))
    intercept = "" if taker is None else taker.part.name
    names = tuple(filter(None, (stored.name, intercept)))
    entry = replace(told(read, node), intercept=intercept, tensors=names)
    return Change(entry, moves, outside)


def _reestimated(
    node: str,
    found: NormMeasured,
    statistics: tuple[Part, Part],
    state: Mapping[str, torch.Tensor],
) -> Change:
    moves = []
    for part, new in zip(statistics, found.statistics(), strict=True):
        own, rows = part.of(state), found.read.kept_rows
        moves.append(Move.at(own, rows, new - own.double()[rows]))
    names = tuple(part.name for part in statistics)
    entry = replace(told(found.read, node), intercept=names[0], tensors=names)
    return Change(entry, moves, torch.zeros_like(found.total))


def _effective(read: NormRead, origin: Origin, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The scale or shift that a norm reads, at the channels that are kept."""
    return origin.of(state).double().reshape(-1)[: len(read.gone)][read.kept_rows]
