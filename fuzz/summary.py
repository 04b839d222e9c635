"""What a run of random programs found."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from fuzz.program import Program
from fuzz.pruning import Pruning
from fuzz.trial import DEFECTS, Outcome


@dataclass(frozen=True)
class Failure:
    """A program that shows a defect, and how to see it again."""

    program: Program
    pruning: Pruning
    outcome: Outcome

    def __str__(self) -> str:
        inputs = ", ".join(str(tuple(x.shape)) for x in self.program.draw_inputs())
        return (
            f"{self.outcome.kind}: {self.outcome.reason}\n\n"
            f"{self.program}\ninputs: {inputs}\n{self.pruning}\n\n"
            f"attempt({self.program!r}, {self.pruning!r})\n"
        )


@dataclass
class Summary:
    """Counts over programs."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    sets: Counter[str] = field(default_factory=Counter)
    captured: Counter[str] = field(default_factory=Counter)
    before: int = 0
    after: int = 0
    pruned: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def programs(self) -> int:
        """How many there were."""
        return self.outcomes.total()

    @property
    def refused(self) -> float:
        """The share of programs that were refused."""
        return self.outcomes["refused"] / max(1, self.programs)

    def add(self, program: Program, outcome: Outcome) -> None:
        """Count a program."""
        self.outcomes[outcome.kind] += 1
        self.steps.update(program.steps)
        self.sets.update(outcome.sets)
        if outcome.kind != "equal":
            self.reasons[f"{outcome.kind}: {alike(outcome.reason)}"] += 1
            return
        self.captured[outcome.captured] += 1
        self.before += outcome.before
        self.after += outcome.after
        self.pruned += outcome.after < outcome.before

    def __str__(self) -> str:
        cut = 1 - self.after / max(1, self.before)
        outcomes = ", ".join(f"{n} {kind}" for kind, n in self.outcomes.most_common())
        defects = ", ".join(f"{self.outcomes[kind]} {kind}" for kind in DEFECTS)
        captured = ", ".join(f"{n} by {rung}" for rung, n in self.captured.most_common())
        sets = ", ".join(f"{n} {name}" for name, n in self.sets.most_common())
        steps = ", ".join(f"{name} {n}" for name, n in self.steps.most_common())
        lines = [
            f"{self.programs} programs: {outcomes}",
            f"{self.pruned} lost parameters, {cut:.0%} of all parameters",
            f"captured: {captured}",
            f"compared on inputs: {sets}",
            f"defects: {defects}",
            f"steps: {steps}",
        ]
        lines += [f"  {n} x {reason}" for reason, n in self.reasons.most_common()]
        return "\n".join(lines)


def alike(reason: str) -> str:
    """A reason without numbers and names of nodes, so that alike ones are counted together.

    >>> alike("RewriteError: node add_3 cannot be repaired")
    'RewriteError: node add cannot be repaired'
    >>> alike("all 6 channels of group m3[head_dims] would be removed")
    'all # channels of group m#[head_dims] would be removed'
    """
    reason = re.sub(r"(node \w*?[a-z])_\d+", r"\1", reason)
    reason = re.sub(r" \| where: .*?(?= \| |$)", "", reason)
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", reason)
