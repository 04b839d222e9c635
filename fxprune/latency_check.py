"""The latency of whole models: a shrunk one against the dense one."""

from __future__ import annotations

import statistics
import warnings
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import fx, nn

from fxprune.api import shrink
from fxprune.errors import InputError
from fxprune.inputs import bind, call_arguments, materialize
from fxprune.planning.choice import make_plan
from fxprune.planning.latency import device_of
from fxprune.planning.op_times import seconds
from fxprune.real_calls import copies, with_own_buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Ids

_WARM_UP = 2
_FEWEST, _MOST = 9, 60
_LONG = 5.0
"""Runs end after this many seconds, if there were enough."""


def measured_latency(deps: DependencyGraph, example_inputs: Any = None) -> Callable[[Ids], float]:
    """What measures which share of the dense model's latency a removal leaves.

    The shrunk model is built, and both are called in turns, so that a machine that is now fast, now
    slow makes both fast and slow; the share is the median of the ratios of neighbouring calls.

    Args:
        deps: the analysis of the dense model.
        example_inputs: what the models are called on; random ones of the same shapes by default.

    Raises:
        InputError: the model is on the meta device, or the inputs do not fit.
    """
    if any(tensor.device.type == "meta" for tensor in deps.state.values()):
        raise InputError(
            "a model on the meta device has no latency",
            hint="load its weights, or tell what operators cost: cost=",
        )
    if example_inputs is None:
        values = materialize(deps.inputs, seed=0)
    else:
        values = bind(deps.graph_module, example_inputs)
    emit: Literal["module", "graph"] = "module" if deps.captured_by == "record" else "graph"

    def measure(removed: Ids) -> float:
        plan = make_plan(deps, removed, {})
        small = shrink(deps, plan, example_inputs, emit=emit, verify=False)
        dense = deps.graph_module if isinstance(small, fx.GraphModule) else deps.model
        return latency_ratio(deps, dense, small, values)

    return measure


def latency_ratio(
    deps: DependencyGraph, dense: nn.Module, small: nn.Module, values: Sequence[Any]
) -> float:
    """The time of a forward of one model in units of one of another, called in turns."""
    device = device_of(deps)
    models = [with_own_buffers(dense), with_own_buffers(small)]

    def forward(model: nn.Module) -> float:
        args, kwargs = call_arguments(deps.graph_module, model, copies(values))
        return seconds(lambda: model(*args, **kwargs), device)

    ratios: list[float] = []
    total = 0.0
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user has seen them
        for _ in range(_WARM_UP):
            for model in models:
                forward(model)
        while len(ratios) < _FEWEST or (total < _LONG and len(ratios) < _MOST):
            whole, part = map(forward, models)
            total += whole + part
            ratios.append(part / whole)
    return statistics.median(ratios)
