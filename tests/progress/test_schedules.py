"""What may be left after each step, by the formulas of the schedules."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from fxprune import InputError
from fxprune.progress.schedules import Pace

ALL: list[Any] = ["linear", "cubic", "geometric", lambda t: t**2]


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("last", [0.05, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_less_and_less_is_left_and_the_end_is_exact(schedule: Any, last: float, steps: int) -> None:
    pace = Pace(schedule, steps)
    left = [pace.left(step, last) for step in range(1, steps + 1)]
    assert left[-1] == last
    assert all(a >= b for a, b in pairwise([1.0, *left]))
    assert pace.ratio(steps, 0.3) == 0.3


def test_the_schedules_are_those_of_their_formulas() -> None:
    assert Pace("linear", 4).left(1, 0.2) == pytest.approx(0.8, abs=1e-15)
    assert Pace("cubic", 2).left(1, 0.2) == pytest.approx(1 - 0.8 * 0.875, abs=1e-15)
    assert Pace("geometric", 2).left(1, 0.25) == 0.5
    assert Pace(lambda t: t**2, 2).left(1, 0.2) == pytest.approx(0.8, abs=1e-15)
    assert Pace("linear", 2).ratio(1, 0.5) == 0.25
    assert Pace("geometric", 2).ratio(1, 0.75) == 0.5


WRONG: dict[str, tuple[Any, str]] = {
    "name": ("square", "unknown schedule 'square'"),
    "number": (3, "unknown schedule 3"),
    "list": ([0.5, 1.0], "unknown schedule"),
    "falls": (lambda t: 1 - t, "falls"),
    "short": (lambda t: 0.5 * t, r"ends at 0\.5"),
    "above": (lambda t: 2 * t, "returns 2"),
    "nothing": (lambda _: None, "returns None"),
    "fails": (lambda t: t / 0, "fails at"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_schedules_are_refused(case: str) -> None:
    schedule, text = WRONG[case]
    with pytest.raises(InputError, match=text):
        Pace(schedule, 2)
