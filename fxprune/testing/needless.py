"""Pins that need not be: positions that a rule pins although they could be removed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from fxprune.labels.masks import Mask
from fxprune.testing.differences import shapes_differ, values_differ
from fxprune.testing.trial import CannotRunError, Trial

if TYPE_CHECKING:
    from fxprune.labels import Axis
    from fxprune.rules import Call
    from fxprune.testing.samples import Positions

Place: TypeAlias = tuple[int, int]
"""Operand and dim."""

_ROUNDS = tuple((seed, negative) for seed in range(3) for negative in (False, True))
_MOST_COUPLED = 6
_MOST_HYPOTHESES = 64


@dataclass(frozen=True)
class NeedlessPin:
    """Pinned positions of an operand's axis, each of which could be removed.

    Attributes:
        operand: name of the argument.
        dim: the axis.
        positions: the pinned positions.
        coupled: other operands and dims that lose the same position along with it.
        zeroed: whether this needs `sums=`: the removed positions must be zeroed.
    """

    operand: str
    dim: int
    positions: tuple[int, ...]
    coupled: tuple[tuple[str, int], ...]
    zeroed: bool

    def __str__(self) -> str:
        text = f"{self.operand} dim {self.dim} positions {', '.join(map(str, self.positions))}"
        if self.coupled:
            text += f", together with {', '.join(f'{n} dim {d}' for n, d in self.coupled)}"
        return f"{text}, where sums= names this axis" if self.zeroed else text


def needless_pins(trial: Trial) -> list[NeedlessPin]:
    """The axes of which every pinned position could be removed alone, for all that can be seen.

    For each pinned position of a labelled operand, that position is removed there, and at the same
    time on any of the other axes of its size where it is pinned too. It could go if the operator on
    the sliced operands gives the full outcome without those positions of each output that
    depend on the removed numbers (or with them, where nothing depends). An axis is reported only if
    that holds for every pinned position of it: the last position of a window may go, but that does
    not make it a channel. Couplings of another pattern are not tried, so nothing found proves
    nothing.
    """
    if trial.sample.random:
        return []
    pinned = dict(_pinned(trial))
    found = []
    for (operand, dim), positions in pinned.items():
        for others, zeroed in _attempts((operand, dim), pinned):
            if all(_could_go(trial, [(operand, dim), *others], p, zeroed) for p in positions):
                names = tuple((trial.names[number], d) for number, d in others)
                found.append(NeedlessPin(trial.names[operand], dim, positions, names, zeroed))
                break
    return found


def _pinned(trial: Trial) -> Iterator[tuple[Place, tuple[int, ...]]]:
    """The pinned positions of every axis of a labelled operand; a single position always stays."""
    for operand, axes in enumerate(trial.inputs):
        for dim, axis in enumerate(axes):
            if trial.labelled[operand] and axis.size > 1:
                carries = np.zeros(axis.size, dtype=np.bool_)
                for vector in trial.labels.leaves(axis):
                    carries |= vector != 0
                if not carries.all():
                    yield (operand, dim), tuple(np.flatnonzero(~carries).tolist())


def _attempts(
    place: Place, pinned: Mapping[Place, tuple[int, ...]]
) -> Iterator[tuple[list[Place], bool]]:
    """Sets of other axes that may be coupled to one, as it is and with zeros; small sets first."""
    others = [p for p in pinned if p != place and pinned[p] == pinned[place]][:_MOST_COUPLED]
    for zeroed in (False, True):
        for count in range(len(others) + 1):
            for chosen in itertools.combinations(others, count):
                yield list(chosen), zeroed


def _could_go(trial: Trial, places: Sequence[Place], position: int, zeroed: bool) -> bool:
    """Whether one position of these axes can be removed in every round of numbers."""
    removed = {
        id(trial.inputs[operand][dim]): _only(trial.inputs[operand][dim], position)
        for operand, dim in places
    }
    kept = [
        [
            np.flatnonzero(~removed.get(id(axis), np.zeros(axis.size, dtype=np.bool_)))
            for axis in axes
        ]
        for axes in trial.inputs
    ]
    attempt = _Attempt(trial, places, position, removed, kept, zeroed)
    try:
        return any(attempt.holds(outputs) for outputs in attempt.hypotheses())
    except (RuntimeError, IndexError, ValueError):
        return False  # the operator does not take the numbers that were tried


@dataclass(frozen=True)
class _Attempt:
    """The removal of one position of some axes of the operands."""

    trial: Trial
    places: Sequence[Place]
    position: int
    removed: Mapping[int, Mask]
    kept: Sequence[Sequence[Positions]]
    zeroed: bool

    def holds(self, outputs: Sequence[Sequence[Positions]]) -> bool:
        """Whether the outputs without these positions are those of the sliced operands."""
        return all(self._holds_for(outputs, seed, negative) for seed, negative in _ROUNDS)

    def _holds_for(self, outputs: Sequence[Sequence[Positions]], seed: int, negative: bool) -> bool:
        call = self.trial.call(negative=negative, seed=seed)
        try:
            got = self.trial.sliced(call, self.kept, outputs)
            full = self.full(call)
        except CannotRunError:
            return False
        return not (shapes_differ(full, got, outputs) or values_differ(full, got, outputs))

    def full(self, call: Call) -> list[torch.Tensor]:
        """The full outcome, in which the removed positions do not count."""
        if self.zeroed:
            self.fill(call, 0)
        return self.trial.masked(
            call,
            lambda axis: self.removed.get(id(axis), np.zeros(axis.size, dtype=np.bool_)),
        )

    def fill(self, call: Call, value: float) -> None:
        """Overwrite the removed positions of the operands; integers stay, they may be indices."""
        tensors = call.tensors()
        for operand, dim in self.places:
            if tensors[operand].is_floating_point() or tensors[operand].dtype == torch.bool:
                tensors[operand].select(dim, self.position).fill_(value)

    def hypotheses(self) -> Iterator[list[list[Positions]]]:
        """What may be left of the outputs: all; or without the positions of a dim that depend."""
        whole = [[np.arange(axis.size) for axis in axes] for axes in self.trial.outputs]
        yield whole
        choices = []
        for full, changed in zip(whole, self.dependent(), strict=True):
            options = [full]
            for dim in range(len(full) if changed.any() else 0):
                others = tuple(d for d in range(len(full)) if d != dim)
                stay = np.flatnonzero(~changed.any(axis=others))
                if stay.size:
                    options.append([*full[:dim], stay, *full[dim + 1 :]])
            choices.append(options)
        yield from map(list, itertools.islice(itertools.product(*choices), 1, _MOST_HYPOTHESES))

    def dependent(self) -> list[Mask]:
        """For each output, the entries that change with the numbers at the removed positions."""
        found = [np.zeros([axis.size for axis in axes], np.bool_) for axes in self.trial.outputs]
        for seed, negative in _ROUNDS[:2]:
            outcomes = []
            for value in (None, -3, 5):
                call = self.trial.call(negative=negative, seed=seed)
                if value is not None:
                    self.fill(call, value)
                outcomes.append(self.trial.masked(call, lambda axis: np.zeros(axis.size, np.bool_)))
            for changed, first, *others in zip(found, *outcomes, strict=True):
                for other in others:
                    changed |= ~torch.eq(first, other).numpy()  # noqa: PLW2901  # in place
        return found


def _only(axis: Axis, position: int) -> Mask:
    found: Mask = np.arange(axis.size) == position
    return found
