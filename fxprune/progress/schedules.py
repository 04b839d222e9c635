"""How fast channels go: what may be left after each of several steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias, get_args

from fxprune.errors import InputError, in_one_line, shown

Named = Literal["linear", "cubic", "geometric"]
Schedule: TypeAlias = Named | Callable[[float], float]
"""A name, or a function from the share of the steps to the share of the way, both in [0, 1]."""


@dataclass(frozen=True)
class Pace:
    """What may be left after each step.

    With t for the share of the steps that are done and s for what is left at the end (1 - ratio, or
    the share of a target), there is left

    1. "linear": 1 - (1 - s) t, equal cuts;
    2. "cubic": 1 - (1 - s) (1 - (1 - t)^3), most of it early, while the model can still adapt (Zhu
       and Gupta, To prune, or not to prune, 2017, equation 1);
    3. "geometric": s^t, every step leaves the same share of what the one before has left;
    4. a function f: 1 - (1 - s) f(t).

    Attributes:
        schedule: one of these.
        steps: how many there are.

    Raises:
        InputError: the schedule is none of these, falls, or does not end at 1; or there is no step.
    """

    schedule: Schedule
    steps: int

    def __post_init__(self) -> None:
        if callable(self.schedule):
            self._check_function()
        elif self.schedule not in get_args(Named):
            raise InputError(
                f"unknown schedule {shown(self.schedule)}",
                hint=f"take one of {', '.join(get_args(Named))}, or a function from the share of"
                " the steps to the share of the way",
            )

    def _check_function(self) -> None:
        before = 0.0
        for step in range(1, self.steps + 1):
            share = self.share(step)
            if share < before:
                raise InputError(
                    f"the schedule falls: {before:g}, and then {share:g} at step {step}",
                    why="what is gone does not come back",
                    hint="return shares that do not decrease, such as t ** 2",
                )
            before = share
        if before != 1:
            raise InputError(
                f"the schedule ends at {before:g}",
                why="at 1 all steps are done, and the whole way has to be, too",
                hint="return 1 at 1",
            )

    def share(self, step: int) -> float:
        """The share of the way after so many steps, for all schedules but "geometric".

        Raises:
            InputError: a function of the user fails, or returns no number in [0, 1].
        """
        t = step / self.steps
        if not callable(self.schedule):
            return t if self.schedule == "linear" else 1 - (1 - t) ** 3
        try:
            share: Any = self.schedule(t)
        except Exception as error:
            raise InputError(
                f"the schedule fails at {t:g}: {in_one_line(error)}",
                hint="pass a function of one number",
            ) from error
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share <= 1:  # type: ignore[operator]  # mypy does not know how Real compares
            raise InputError(
                f"the schedule returns {shown(share)} at {t:g}",
                hint="return the share of the way, in [0, 1]",
            )
        return float(share)

    def left(self, step: int, last: float) -> float:
        """What may be left after so many steps, of which `last` is left in the end."""
        if step >= self.steps:
            return last
        if self.schedule == "geometric":
            return float(last ** (step / self.steps))
        return 1 - (1 - last) * self.share(step)

    def ratio(self, step: int, last: float) -> float:
        """The share that goes in so many steps, of which `last` goes in the end."""
        return last if step >= self.steps else 1 - self.left(step, 1 - last)
