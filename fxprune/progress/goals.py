"""What is asked of progressive pruning, and how much of it at each step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from fxprune.choosing import plan
from fxprune.errors import InputError, shown
from fxprune.importance import Criterion, criterion_of
from fxprune.planning import Plan, Strategy
from fxprune.planning.budgets import checked_target
from fxprune.planning.sensitivity_data import Sensitivity
from fxprune.planning.strategies import checked_ratio, multiple_for
from fxprune.progress.schedules import Pace
from fxprune.suggestions import nearest

Scored: TypeAlias = Callable[[Criterion, str], Criterion]
"""From a criterion and how it was given to what looks at the model in its place."""
_ELSEWHERE = {"model", "example_inputs"}
_REFUSED = {
    "threshold": "a threshold does not tell how much is to be left",
    "drop": "blocks go at once, not step by step",
    "by": "blocks go at once, not step by step",
    "after": "each step goes on from the one before by itself",
}
_INSTEAD = "shrink with it first, and go on with the result; or pass target= or ratio="
_NO_GOAL = "pass target={'macs': 0.5}, say, or ratio=, ratios= or strategies= with a ratio"


@dataclass(frozen=True)
class Goal:
    """What is to be left in the end, and how far each step goes.

    Attributes:
        target: shares of the original's cost, or None.
        options: of `fxprune.plan`, as they hold in the end.
        pace: how far each step goes.

    Raises:
        InputError: an option is unknown, out of range or cannot go step by step, or none of them
            says how much goes.
    """

    target: Mapping[str, float] | None
    options: Mapping[str, Any]
    pace: Pace

    def __post_init__(self) -> None:
        known = set(inspect.signature(plan).parameters) - _ELSEWHERE - {"target"}
        for name in self.options:
            if name in _REFUSED:
                raise InputError(f"{name}= is given", why=_REFUSED[name], hint=_INSTEAD)
            if name not in known:
                raise InputError(
                    f"unknown option {name}", hint=nearest(name, sorted(known - _REFUSED.keys()))
                )
        lasting = {name: _lasting(value) for name, value in self.options.items()}
        object.__setattr__(self, "options", lasting)
        if self.target is not None:
            object.__setattr__(self, "target", checked_target(self.target))
        for name in ("ratios", "strategies"):
            if not isinstance(self.options.get(name) or {}, Mapping):
                raise InputError(
                    f"{name} is {shown(self.options[name])}",
                    hint="pass a dict with names of modules as keys",
                )
        for name, strategy in self._strategies().items():
            if strategy.threshold is not None:
                raise InputError(
                    f"strategies[{name!r}] has a threshold",
                    why=_REFUSED["threshold"],
                    hint="pass a ratio instead",
                )
        said: list[float | None] = [self._ratio(), *self._ratios().values()]
        said += [strategy.ratio for strategy in self._strategies().values()]
        if self.target is None and not any(said):
            raise InputError("nothing says how much is to go", hint=_NO_GOAL)

    def _ratio(self) -> float:
        return checked_ratio(self.options.get("ratio", 0.0), "ratio")

    def _ratios(self) -> dict[str, float]:
        given = self.options.get("ratios") or {}
        return {name: checked_ratio(value, f"ratios[{name!r}]") for name, value in given.items()}

    def _strategies(self) -> dict[str, Strategy]:
        given = self.options.get("strategies") or {}
        return {name: Strategy.of(value, f"strategies[{name!r}]") for name, value in given.items()}

    def at(self, step: int, scored: Scored) -> dict[str, Any]:
        """The options of `fxprune.plan` for a step.

        Args:
            step: its number, from 1.
            scored: what looks at the model in place of each criterion.
        """
        seed = self.options.get("seed", 0)

        def score(given: Any) -> Criterion:
            criterion = criterion_of(given, seed)
            return scored(criterion, given if isinstance(given, str) else str(criterion))

        pace, found = self.pace, dict(self.options)
        if self.target is not None:
            found["target"] = {name: pace.left(step, left) for name, left in self.target.items()}
        found["ratio"] = pace.ratio(step, self._ratio())
        found["ratios"] = {name: pace.ratio(step, last) for name, last in self._ratios().items()}
        found["strategies"] = {
            name: replace(
                strategy,
                ratio=None if strategy.ratio is None else pace.ratio(step, strategy.ratio),
                criterion=None if strategy.criterion is None else score(strategy.criterion),
            )
            for name, strategy in self._strategies().items()
        }
        found["criterion"] = score(self.options.get("criterion", "l2"))
        return found

    def told(self) -> dict[str, str]:
        """All of it in words, option by option; what is left at its default is not told."""
        pace = self.pace
        shares = [f"{pace.left(step, 0.5):g}" for step in range(1, pace.steps + 1)]
        schedule = pace.schedule if isinstance(pace.schedule, str) else f"halving: {shares}"
        found = {"target": self.target, **self.options, "steps": pace.steps, "schedule": schedule}
        defaults = {n: p.default for n, p in inspect.signature(plan).parameters.items()}
        given, is_timed = found.get("round_to", "auto"), found.get("cost") is None
        found["round_to"] = multiple_for(given, self.target, is_timed=is_timed)
        defaults["round_to"] = multiple_for("auto", self.target, is_timed=is_timed)
        defaults["scope"] = "group" if found.get("sensitivity") is None else "global"
        return {
            name: _in_words(value)
            for name, value in found.items()
            if name not in defaults or _in_words(value) != _in_words(defaults[name])
        }


def _lasting(value: Any) -> Any:
    """An option that every step can read: what can be read once only becomes a list."""
    if isinstance(value, Mapping):
        return {name: _lasting(item) for name, item in value.items()}
    return list(value) if isinstance(value, Iterator) else value


def _in_words(value: Any) -> str:
    """A setting as text, the same in every process."""
    if isinstance(value, (Strategy, Sensitivity)):
        return _in_words(value.told())
    if isinstance(value, Plan):
        return f"a plan, {value.digest}"
    if isinstance(value, Mapping):
        pairs = sorted((str(key), _in_words(item)) for key, item in value.items())
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_in_words, value)) + "]"
    if isinstance(value, (set, frozenset)):
        return _in_words(sorted(map(_in_words, value)))
    if value is None or isinstance(value, (bool, int, float, str)):
        return str(value)
    if isinstance(value, Criterion):
        return str(value)
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return _in_words(value.tolist())
    return str(getattr(value, "__name__", type(value).__name__))


def refuse_other(there: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Refuse a checkpoint of a run with other settings (see `Goal.told`).

    Raises:
        InputError: an option differs; tells which.
    """
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise InputError(
                f"the checkpoint is of another run: {name} is {there.get(name, 'not given')} there,"
                f" {here.get(name, 'not given')} here",
                hint="pass the same options, or another checkpoint= for a new run",
            )
