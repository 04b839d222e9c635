"""One model through the whole chain: analyze, plan, shrink, verify."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

import fxprune
from fxprune.errors import in_one_line
from fxprune.stepping import OriginalFailsError, ResultFailsError
from models_zoo import randomize
from sweeps.entry import SweepModel
from sweeps.rows import Row

_RATIO = 0.5
_PACKAGE = Path(fxprune.__file__).parent


class UnusableError(Exception):
    """The model itself does not run, or gives numbers that cannot be compared."""


def measure(entry: SweepModel, largest: int | None = None) -> Row | None:
    """Run one model through the chain.

    Args:
        entry: the model.
        largest: skip a model of more parameters; it gets no row (None).
    """
    row = Row(entry.library, entry.family, entry.name, "shrunk")
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, inputs = _usable(entry, largest)
            if model is None:
                return None
            start = time.perf_counter()
            for found in _chain(model, inputs):
                row = replace(row, **found)
    except UnusableError as error:
        row = replace(row, outcome="unusable", reason=str(error))
    except (OriginalFailsError, ResultFailsError) as error:
        row = replace(row, outcome="crashed", reason=_told(error))
    except fxprune.VerificationError as error:
        row = replace(row, outcome="wrong", reason=_told(error))
    except fxprune.FxPruneError as error:
        row = replace(row, outcome="refused", reason=_told(error))
    except Exception as error:  # noqa: BLE001  # whatever a model provokes is what the sweep is for
        row = replace(row, outcome="crashed", reason=f"{in_one_line(error)} [{_place(error)}]")
    return replace(row, seconds=time.perf_counter() - start)


def _usable(entry: SweepModel, largest: int | None) -> tuple[nn.Module | None, Any]:
    """The randomized model and its inputs, tried once; no model if it is too large."""
    torch.manual_seed(0)
    try:
        model = entry.build().eval()
        if largest is not None and sum(p.numel() for p in model.parameters()) > largest:
            return None, None
        randomize(model)
        entry.settle(model)
        inputs = entry.example_inputs()
        calibrate(model, inputs)
        outputs = _forward(model, inputs)
    except Exception as error:
        raise UnusableError(in_one_line(error)) from error
    values = [v for v in pytree.tree_leaves(outputs) if isinstance(v, torch.Tensor)]
    if not values:
        raise UnusableError("the model returns no tensor")
    if any(v.isnan().any() for v in values):
        raise UnusableError("the model returns NaN, which equals anything")
    return model, inputs


def calibrate(model: nn.Module, inputs: Any) -> None:
    """Give every batch norm the statistics of what it sees.

    With statistics that fit nothing the activations of a deep residual network double from block to
    block, until rounding alone makes its outputs differ.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.training = True
    try:
        _forward(model, inputs)
    except ValueError:  # one value a channel has no statistics: this one keeps the random ones
        pass
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.training = False


def _forward(model: nn.Module, inputs: Any) -> Any:
    with torch.no_grad():
        if isinstance(inputs, dict):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _chain(model: nn.Module, inputs: Any) -> Iterator[dict[str, Any]]:
    """What each stage found out, told before the next one may fail."""
    yield {"stage": "analyze", "parameters": sum(p.numel() for p in model.parameters())}
    deps = fxprune.analyze(model, inputs)
    yield {"stage": "plan", "captured": deps.captured_by, "prunable": prunable_share(deps)}
    plan = fxprune.plan(deps, ratio=_RATIO)
    yield {"stage": "shrink"}
    small: Any = fxprune.shrink(deps, plan, inputs, verify=False, emit="auto")
    report = small.meta["fxprune"]
    cut = 1 - report.after.parameters / max(report.before.parameters, 1)
    yield {"stage": "verify", "cut": cut, "emit": report.emit}
    proof = fxprune.verify(deps, small, plan, inputs)
    yield {"stage": "", "error": proof.relative, "dtype": proof.dtype}


def prunable_share(deps: fxprune.DependencyGraph) -> float:
    """The share of the parameters that go if every channel that may go does.

    A parameter's value stays if its position stays along every axis.
    """
    free: dict[tuple[str, int], Any] = {}
    for group in deps.groups:
        for member in group.members if group.pinned is None else ():
            mask = member.channels >= 0
            key = member.parameter, member.dim
            free[key] = free[key] | mask if key in free else mask
    stay = total = 0.0
    for name, parameter in deps.graph_module.named_parameters():
        total += parameter.numel()
        dims = range(parameter.ndim)
        shares = [1 - free[name, dim].mean() if (name, dim) in free else 1.0 for dim in dims]
        stay += parameter.numel() * float(np.prod(shares))
    return 1 - stay / total if total else 0.0


def _told(error: fxprune.FxPruneError) -> str:
    """Type, what and where; the hints are for the one who reads the error itself."""
    place = str(error.where)
    return (
        in_one_line(error)
        + (f" [{place}]" if place else "")
        + (f": {error.why}" if error.why else "")
    )


def _place(error: Exception) -> str:
    """The innermost line of fxprune that a foreign error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _PACKAGE in Path(frame.filename).parents]
    frame = (ours or list(frames))[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
