"""What candidate plans cost, and what they are worth: data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Cost: TypeAlias = Literal["macs", "parameters"]


@dataclass(frozen=True)
class Candidate:
    """A model that a plan makes.

    Attributes:
        name: of the plan.
        parameters: that are left.
        macs: multiply-accumulate operations that are left, on the example inputs.
        value: what it is worth; None if nobody knows.
        plan: what tells the plan (`plan_digest`); "" for the original.
    """

    name: str
    parameters: int
    macs: int
    value: float | None
    plan: str = ""


@dataclass(frozen=True)
class Tradeoff:
    """Candidates side by side.

    Attributes:
        metric: what the values are.
        mode: "max" if higher values are better, "min" if lower ones are.
        candidates: the original first, if its value is known.
    """

    metric: str
    mode: Literal["max", "min"]
    candidates: tuple[Candidate, ...]

    def front(self, cost: Cost = "macs") -> tuple[Candidate, ...]:
        """The Pareto front: candidates that no other beats in both, the cheapest first.

        One beats another if it costs no more and is worth no less, and is better in one of these.
        Of several that are the same in both, all are on the front.

        >>> costs = ((4, 0.9), (3, 0.8), (2, 0.85), (2, 0.7), (1, 0.5))
        >>> found = [Candidate(f"{c}/{v}", c, c, v) for c, v in costs]
        >>> [each.name for each in Tradeoff("accuracy", "max", tuple(found)).front()]
        ['1/0.5', '2/0.85', '4/0.9']
        """
        known = [each for each in self.candidates if each.value is not None]
        ordered = sorted(known, key=lambda each: (getattr(each, cost), -self._worth(each)))
        front: list[Candidate] = []
        for each in ordered:
            best = front[-1] if front else None
            same = best is not None and (getattr(each, cost), each.value) == (
                getattr(best, cost),
                best.value,
            )
            if best is None or same or self._worth(each) > self._worth(best):
                front.append(each)
        return tuple(front)

    def _worth(self, candidate: Candidate) -> float:
        """A value of which more is better."""
        value = candidate.value or 0.0
        return value if self.mode == "max" else -value
