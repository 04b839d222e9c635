"""Criteria by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fxprune.errors import InputError, shown
from fxprune.importance.criterion import Criterion
from fxprune.importance.folding import Folding
from fxprune.importance.redundancy import Cosine, GeometricMedian
from fxprune.importance.weights import L1, L2, LAMP, BatchNormScale, ByFunction, Random

_NAMED: dict[str, Callable[[int], Criterion]] = {
    "l2": lambda _: L2(),
    "l1": lambda _: L1(),
    "random": Random,
    "lamp": lambda _: LAMP(),
    "bn_scale": lambda _: BatchNormScale(),
    "fpgm": lambda _: GeometricMedian(),
    "cosine": lambda _: Cosine(),
    "folding": lambda _: Folding(),
}
CRITERIA = tuple(_NAMED)
"""The names of criteria that need no data."""


def criterion_of(value: Any, seed: int = 0) -> Criterion:
    """A criterion by its name; a function of a parameter's name and values; or itself.

    Args:
        value: one of `CRITERIA`, a Criterion, or a function (see `ByFunction`).
        seed: for "random".

    Raises:
        InputError: it is none of them.
    """
    if isinstance(value, Criterion):
        return value
    if isinstance(value, str) and value in _NAMED:
        return _NAMED[value](seed)
    if callable(value) and not isinstance(value, type):
        return ByFunction(value)
    raise InputError(
        f"unknown criterion {shown(value)}",
        hint=f"take one of {', '.join(CRITERIA)}, or an object of fxprune.importance",
    )
