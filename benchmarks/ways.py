"""Ways to choose channels and to repair what is left, by name: a row of a table for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

import fxprune
from benchmarks.rivals import LARGEST, loss
from benchmarks.subjects import Subject
from examples.pretrained import moves
from fxprune import DependencyGraph, importance
from fxprune.errors import InputError
from fxprune.planning import Plan


@dataclass(frozen=True)
class Once(importance.Criterion):
    """A criterion that is measured once for all shares of MACs."""

    criterion: importance.Criterion
    found: list[importance.Evidence] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("needs", "comparable", "joint"):
            object.__setattr__(self, name, getattr(self.criterion, name))

    def evidence(self, deps: DependencyGraph) -> Iterator[importance.Evidence]:
        """What it was the first time."""
        self.found[:] = self.found or self.criterion.evidence(deps)
        yield from self.found

    def finished(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the criterion makes of them."""
        return self.criterion.finished(scores)


Criterion = Callable[[Subject], Any]


@dataclass(frozen=True)
class Method:
    """How channels are chosen.

    Attributes:
        criterion: for a network and its inputs.
        labels: whether it needs labels.
        seeded: whether it looks at inputs or random numbers.
        options: of `fxprune.plan`.
    """

    criterion: Criterion
    labels: bool = False
    seeded: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


def _named(name: str) -> Criterion:
    return lambda subject: name


def _activation(statistic: Any) -> Criterion:
    return lambda subject: Once(
        importance.Activation(subject.batches, statistic, whole, progress=False)
    )


def _outputs(subject: Subject) -> Once:
    return Once(importance.Fisher(subject.directions(), moves, progress=False))


def _gradient(kind: Any) -> Criterion:
    return lambda subject: Once(kind(subject.labelled, loss, progress=False))


def _missed(subject: Subject) -> Once:
    return Once(importance.ReconstructionError(subject.batches, inputs=whole, progress=False))


GLOBAL: Mapping[str, Any] = {"scope": "global"}
METHODS: dict[str, Method] = {
    **{name: Method(_named(name), seeded=name == "random") for name in importance.CRITERIA},
    "activation variance": Method(_activation("variance")),
    "reconstruction error": Method(_missed),
    "reconstruction error, global": Method(_missed, options=GLOBAL),
    "outputs": Method(_outputs),
    "outputs, global": Method(_outputs, options=GLOBAL),
    "l2, global": Method(_named("l2"), seeded=False, options={**GLOBAL, "normalize": "mean"}),
    "lamp, global": Method(_named("lamp"), seeded=False, options=GLOBAL),
    "activation mean": Method(_activation("mean")),
    "activation apoz": Method(_activation("apoz")),
    "taylor": Method(_gradient(importance.Taylor), labels=True),
    "fisher": Method(_gradient(importance.Fisher), labels=True),
}
"""How channels are chosen, by name."""
Repair = Callable[[Subject, Plan], Any]


def whole(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """All arguments of the model."""
    return batch


def _reconstructed(subject: Subject, plan: Plan, **options: Any) -> Any:
    found = fxprune.reconstruct(
        subject.model,
        plan,
        subject.batches,
        subject.example,
        inputs=whole,
        progress=False,
        **options,
    )
    return found.deps


REPAIRS: dict[str, Repair] = {
    "nothing": lambda subject, plan: subject.model,
    "means": partial(_reconstructed, method="mean", norms="keep"),
    "reconstruction": _reconstructed,
    "folding": lambda subject, plan: fxprune.fold(subject.model, plan, subject.example).deps,
}
"""From a plan to what is shrunk by it, by name."""
WITHOUT_INPUTS = ("nothing", "folding")
"""Those that look at none."""


def planned(
    subject: Subject, deps: DependencyGraph, method: str, criterion: Any, share: float
) -> Plan | None:
    """What a method removes to leave a share of the MACs; None if it cannot score some group."""
    try:
        return fxprune.plan(
            deps,
            target={"macs": share},
            criterion=criterion,
            max_ratio=LARGEST,
            seed=subject.seed,
            **METHODS[method].options,
        )
    except InputError as error:
        if "cannot score" not in error.what:
            raise
        return None


def shrunk(subject: Subject, plan: Plan, repair: str) -> nn.Module:
    """The network without what a plan removes, repaired."""
    source: nn.Module | DependencyGraph = REPAIRS[repair](subject, plan)
    return fxprune.shrink(source, plan, subject.example, verify="quick").eval()
