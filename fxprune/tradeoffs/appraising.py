"""What models that candidate plans make cost and are worth, found out here or on any executor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

from fxprune.api import Emit, shrink
from fxprune.cost import undropped_cost
from fxprune.errors import InputError, shown
from fxprune.inputs import materialize
from fxprune.layers import Change
from fxprune.module_trees import as_parameter, clone_tree
from fxprune.sensitivities.runs import Evaluate, Evaluating, Step, Verify, naming, whole_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from fxprune.analysis import DependencyGraph, Model
    from fxprune.layers import Layer
    from fxprune.meaning import Constants, Norm
    from fxprune.planning import Plan

ORIGINAL = "(original)"
"""The name of the model as it is."""


@dataclass(frozen=True)
class Worth:
    """What a model is worth and what it costs.

    Attributes:
        value: what it is worth; None if nobody knows.
        parameters: that it has.
        macs: multiply-accumulate operations, on the example inputs.
    """

    value: float | None
    parameters: int
    macs: int

    @classmethod
    def of(cls, value: float | None, layers: Sequence[Layer]) -> Self:
        """With the cost after pruning of all layers."""
        parameters = Change.total(layer.parameters for layer in layers).after
        return cls(value, parameters, Change.total(layer.macs for layer in layers).after)


@dataclass(frozen=True)
class Making:
    """How models are made of plans: see `fxprune.shrink`."""

    emit: Emit
    norm: Norm
    constants: Constants
    verify: Verify

    def told(self) -> dict[str, str]:
        """What a value depends on."""
        return {"emit": self.emit, "norm": self.norm, "constants": self.constants}


class Appraisal(Evaluating[Worth]):
    """Makes the models of candidate plans, and finds out what they are worth.

    Args:
        model: the user's.
        inputs: example inputs, or None for random ones as each plan tells.
        evaluate: the user's function.
        making: how models are made.
    """

    def __init__(self, model: Model, inputs: Any, evaluate: Evaluate, making: Making) -> None:
        super().__init__(evaluate)
        self._model, self._inputs, self.making = model, inputs, making
        self._analyses: dict[Any, DependencyGraph] = {}

    def analysis(self, plan: Plan) -> DependencyGraph:
        """That of the model without the blocks that a plan drops; one for all plans alike."""
        key = plan.dropped, None if self._inputs is not None else plan.inputs
        if key not in self._analyses:
            given = self._inputs
            inputs = materialize(plan.inputs, seed=None) if given is None else given
            self._analyses[key] = plan.analyze(self._model, inputs)
        return self._analyses[key]

    def shrunk(self, plan: Plan) -> Any:
        """The model that a plan makes."""
        making = self.making
        return shrink(
            self.analysis(plan),
            plan,
            self._inputs,
            emit=making.emit,
            norm=making.norm,
            constants=making.constants,
            verify=making.verify,
        )

    def made(self, step: Step) -> nn.Module:
        """The model of a candidate, or a copy of the original."""
        if step.is_original:
            model = whole_model(self.analysis(step.plan))
            return clone_tree(model, lambda tensor: as_parameter(tensor.detach().clone(), tensor))
        with naming(step, "or leave the candidate out"):
            made: nn.Module = self.shrunk(step.plan)
        return made

    def found(self, step: Step, model: nn.Module) -> Worth:
        """What it is worth, and costs."""
        if step.is_original:
            cost = undropped_cost(self.analysis(step.plan))
            parameters, macs = cost.parameters, cost.macs
        else:
            cost_after = Worth.of(None, layers_in(model))
            parameters, macs = cost_after.parameters, cost_after.macs
        return Worth(number(self.value(step, model), step.name), parameters, macs)

    def parts(self) -> tuple[Any, ...]:
        """The model, and all but its analyses."""
        model = whole_model(next(iter(self._analyses.values())))
        return model, self._inputs, self.evaluate, self.making

    @classmethod
    def arrived(cls, parts: tuple[Any, ...], plan: Plan) -> Self:
        """With analyses of its own."""
        return cls(*parts)


def layers_in(small: Any) -> Sequence[Layer]:
    """The layers of a shrunk model, as its report tells them."""
    layers: Sequence[Layer] = getattr(small, "graph_module", small).meta["fxprune"].layers
    return layers


def number(value: Any, name: str) -> float:
    """What somebody says that a model is worth.

    Raises:
        InputError: it is no finite number.
    """
    found = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if isinstance(found, bool) or not isinstance(found, Real) or not math.isfinite(float(found)):
        raise InputError(f"{name} is worth {shown(value)}", why="a finite number was expected")
    return float(found)
