"""The latency of whole models: a shrunk one against the dense one."""

from __future__ import annotations

import statistics
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fxprune.emission import emit_module, is_on_meta
from fxprune.errors import InputError
from fxprune.inputs import bind, call_arguments, materialize
from fxprune.passes import shrink_pipeline
from fxprune.planning import Layout
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
    if is_on_meta(deps):
        raise InputError(
            "a model on the meta device has no latency",
            hint="load its weights, or tell what operators cost: cost=",
        )
    if example_inputs is None:
        values = materialize(deps.inputs, seed=0)
    else:
        values = bind(deps.graph_module, example_inputs)

    def measure(removed: Ids) -> float:
        layout = Layout(deps, removed)
        if deps.captured_by == "record":
            return latency_ratio(deps, deps.model, emit_module(deps, layout, values), values)
        small = shrink_pipeline("kept")(deps.graph_module, layout).graph_module
        return latency_ratio(deps, deps.graph_module, small, values)

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
