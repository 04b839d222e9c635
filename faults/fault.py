"""What a named fault is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from faults.injection import Injection

Area: TypeAlias = Literal[
    "labels",
    "rules",
    "plan layout",
    "slicing",
    "attributes",
    "shape repair",
    "lowering",
    "modules",
    "branches",
]
Emit: TypeAlias = Literal["graph", "module"]
Expected: TypeAlias = Literal["caught", "refused"]
"""Caught by `verify`; or refused before there was anything to verify."""


@dataclass(frozen=True)
class Case:
    """A model of the zoo that is shrunk and verified, and how.

    Attributes:
        model: its name in `models_zoo.ZOO`.
        options: what `fxprune.plan` is given beside the ratio.
        emit: the kind of result.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    emit: Emit = "graph"

    @property
    def key(self) -> str:
        """The case as text that tells it apart from others."""
        return f"{self.model} {sorted(self.options.items())} {self.emit}"


@dataclass(frozen=True)
class Fault:
    """A mistake that a programmer might make, and a case in which it shows."""

    name: str
    area: Area
    injection: Injection
    case: Case
    expected: Expected = "caught"


def fault(
    name: str, area: Area, injection: Injection, model: str, emit: Emit = "graph", **options: Any
) -> Fault:
    """A fault, in the order in which a table reads best."""
    return Fault(name, area, injection, Case(model, options, emit))


def refused(
    name: str, area: Area, injection: Injection, model: str, emit: Emit = "graph", **options: Any
) -> Fault:
    """A fault that a shape gives away, so that there is no result to verify."""
    return Fault(name, area, injection, Case(model, options, emit), "refused")
