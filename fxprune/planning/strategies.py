"""How channels are chosen: what a plan says of all groups, and what it says of some."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

from fxprune.errors import InputError, shown
from fxprune.importance import (
    NORMALIZATIONS,
    REDUCTIONS,
    Criterion,
    Normalization,
    Reduction,
    criterion_of,
)
from fxprune.suggestions import nearest

if TYPE_CHECKING:
    import torch

Scope: TypeAlias = Literal["group", "isomorphic", "global"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
Multiple: TypeAlias = int | Literal["host"]
"""What kept widths are multiples of; "host" is what was measured to suit this machine."""
_Name = TypeVar("_Name", bound=str)
_RATIO = "a ratio is the fraction of channels to remove, in [0, 1)"


@dataclass(frozen=True)
class Strategy:
    """How channels of some groups are chosen; what is None is as for the whole plan.

    Attributes:
        ratio: fraction of channels to remove, in [0, 1).
        threshold: instead of a ratio: the channels with scores below it go.
        criterion: what channels count; see `fxprune.plan`.
        reduction: how the positions that carry a channel are put together.
        normalize: what the scores of a group are divided by.
        scope: which groups are ranked together: "group", each alone; "isomorphic", those that are
            built alike; "global", all that have the same ratio and criterion.
        round_to: kept widths are rounded up to a multiple of this, or, if it is "host", of what
            suits this machine.
        min_channels: how many channels of a group stay at least.
        max_ratio: the largest fraction of a group's channels that may go, in [0, 1].

    Raises:
        InputError: a value is out of range, or both a ratio and a threshold are given.
    """

    ratio: float | None = None
    threshold: float | None = None
    criterion: str | Criterion | Callable[[str, torch.Tensor], torch.Tensor] | None = None
    reduction: Reduction | None = None
    normalize: Normalization | None = None
    scope: Scope | None = None
    round_to: Multiple | None = None
    min_channels: int | None = None
    max_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.ratio is not None:
            object.__setattr__(self, "ratio", checked_ratio(self.ratio, "ratio"))
        if self.criterion is not None:
            criterion_of(self.criterion)
        choices = {"reduction": REDUCTIONS, "normalize": NORMALIZATIONS, "scope": SCOPES}
        for name, known in choices.items():
            if getattr(self, name) is not None:
                checked_choice(getattr(self, name), name, known)
        if self.round_to is not None:
            object.__setattr__(self, "round_to", checked_multiple(self.round_to))
        if self.min_channels is not None:
            least = checked_integer(self.min_channels, "min_channels", 1)
            object.__setattr__(self, "min_channels", least)
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.threshold is not None:
            threshold = _checked_number(self.threshold, "threshold", -math.inf, math.inf)
            object.__setattr__(self, "threshold", threshold)
            if self.ratio:
                raise InputError(
                    f"both ratio={self.ratio} and threshold={self.threshold} are given",
                    why="either says how many channels go",
                    hint="pass one of them",
                )
        if self.max_ratio is not None:
            object.__setattr__(
                self, "max_ratio", _checked_number(self.max_ratio, "max_ratio", 0, 1)
            )
            if self.ratio and self.ratio > self.max_ratio:
                raise InputError(
                    f"ratio={self.ratio} is more than max_ratio={self.max_ratio}",
                    hint=f"the closest ratio is {self.max_ratio}",
                )

    @classmethod
    def of(cls, value: Any, where: str) -> Strategy:
        """A strategy, or the one that a dict of its options describes.

        Raises:
            InputError: it is neither, or an option is unknown; names `where` it was given.
        """
        if isinstance(value, Strategy):
            return value
        if not isinstance(value, Mapping):
            hint = 'pass a fxprune.Strategy, or a dict such as {"ratio": 0.3, "criterion": "l1"}'
            raise InputError(f"{where} is {shown(value)}", hint=hint)
        known = [field.name for field in fields(cls)]
        for name in value:
            if name not in known:
                raise InputError(
                    f"{where} has the unknown option {shown(name)}",
                    hint=nearest(str(name), known),
                )
        try:
            return cls(**value)
        except InputError as error:
            raise InputError(f"{where}: {error.what}", why=error.why, hint=error.hint) from error

    def changed_by(self, other: Strategy, where: str) -> Strategy:
        """This strategy with what another one says.

        Raises:
            InputError: together they contradict each other; names `where` the other was given.
        """
        given = {name: value for name, value in vars(other).items() if value is not None}
        if other.ratio is not None:
            given["threshold"] = None
        if other.threshold is not None:
            given["ratio"] = None
        try:
            return replace(self, **given)
        except InputError as error:
            raise InputError(f"{where}: {error.what}", why=error.why, hint=error.hint) from error

    def told(self) -> dict[str, Any]:
        """What it says, as data."""
        said = {name: value for name, value in vars(self).items() if value is not None}
        if not isinstance(said.get("criterion", ""), str):
            said["criterion"] = str(criterion_of(said["criterion"]))
        return said


def checked_ratio(ratio: Any, name: str) -> float:
    """A fraction of channels as a float.

    Raises:
        InputError: it is not in [0, 1).
    """
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= ratio < 1:  # type: ignore[operator]  # mypy does not know how Real compares
        raise InputError(
            f"{name} is {shown(ratio)}",
            why=_RATIO,
            hint="0.5 removes half of the channels of every group",
        )
    return float(ratio)


def checked_integer(value: Any, name: str, least: int) -> int:
    """An integer (one of numpy, too) of at least `least`.

    Raises:
        InputError: it is none.
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or not least <= int(value) < 1 << 64:
        raise InputError(
            f"{name} is {shown(value)}",
            why=f"it must be an integer of at least {least}, of at most 64 bits",
        )
    return int(value)


def checked_multiple(value: Any) -> Multiple:
    """An integer of at least 1, or "host".

    Raises:
        InputError: it is neither.
    """
    if isinstance(value, str) and value == "host":
        return "host"
    try:
        return checked_integer(value, "round_to", 1)
    except InputError as error:
        hint = 'pass a number, or "host" for what suits this machine'
        raise InputError(error.what, why=error.why, hint=hint) from error


def multiple_for(
    round_to: Any, target: Mapping[str, float] | None, *, is_timed: bool = True
) -> Multiple:
    """What widths are multiples of; "auto" is what suits the machine if its time is what counts.

    Args:
        round_to: an integer, "host" or "auto".
        target: what a plan is to meet, if anything.
        is_timed: whether a latency in it is measured.

    Raises:
        InputError: it is none of these.
    """
    if not (isinstance(round_to, str) and round_to == "auto"):
        return checked_multiple(round_to)
    return "host" if is_timed and "latency" in (target or {}) else 1


def checked_choice(value: Any, name: str, known: tuple[_Name, ...]) -> _Name:
    """One of some names.

    Raises:
        InputError: it is none of them.
    """
    for each in known:
        if isinstance(value, str) and value == each:
            return each
    raise InputError(f"unknown {name} {shown(value)}", hint=f"take one of {', '.join(known)}")


def _checked_number(value: Any, name: str, least: float, most: float) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise InputError(f"{name} is {shown(value)}", why="it must be a finite number")
    except OverflowError as error:
        raise InputError(f"{name} is {shown(value)}", why="no float is that large") from error
    if not least <= value <= most:  # type: ignore[operator]  # mypy does not know how Real compares
        raise InputError(f"{name} is {value}", why=f"it must be in [{least:g}, {most:g}]")
    return float(value)
