"""Repairing what reads removed channels, layer by layer or all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from fxprune.analysis import Model
from fxprune.errors import InputError, shown
from fxprune.importance.running import first
from fxprune.reconstruction.preparing import prepared
from fxprune.reconstruction.results import Reconstruction
from fxprune.reconstruction.runs import Values
from fxprune.reconstruction.work import Work
from fxprune.surroundings import undisturbed

if TYPE_CHECKING:
    import os

    from fxprune.meaning import Norm
    from fxprune.planning import Plan

Method = Literal["regression", "mean"]
Mode = Literal["sequential", "parallel"]


@undisturbed()
def reconstruct(
    model: Model,
    plan: Plan | str | os.PathLike[str],
    batches: Iterable[Any],
    example_inputs: Any = None,
    *,
    method: Method = "regression",
    mode: Mode = "sequential",
    ridge: float = 1e-3,
    norm: Norm = "kept",
    inputs: Callable[[Any], Any] = first,
    progress: bool = True,
) -> Reconstruction:
    """Let layers make the best of the channels that a plan keeps, from unlabelled data.

    Each layer that sums over channels of which some are removed (a linear layer, a convolution, a
    projection of attention) gets weights and a bias that explain what it computed in the original
    by what it reads now, in the least squares: the removed channels are predicted from the kept
    ones, by ridge regression with an intercept, and the prediction is folded into its weights,
    tap by tap for a convolution, group by group for a grouped one. No fine-tuning is involved.
    As He et al., Channel Pruning for Accelerating Very Deep Neural Networks, 2017, section 3.1,
    with the regression in closed form and errors of layers before taken into account.

    The intercept goes into the layer's bias; without one, into the running mean of a batch norm
    that alone reads the layer; without either there is none. At the borders of a convolution that
    pads with zeros it is the mean over all places. A layer is left as it is, with the reason, if it
    passes channels through one by one (a depthwise convolution), is a transposed convolution, or
    shares its weight with another one.

    The repaired original is what the small model is proved to be:

    >>> import torch, fxprune
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> batches = torch.randn(10, 64, 8)
    >>> plan = fxprune.plan(model, batches[0], ratio=0.5)
    >>> repaired = fxprune.reconstruct(model, plan, batches, progress=False)
    >>> small = fxprune.shrink(repaired.model, plan)

    Args:
        model: the original, or its DependencyGraph.
        plan: what will be removed.
        batches: a data loader, or any other iterable; without labels, some hundred samples do.
        example_inputs: what the model is analyzed with, as for `shrink`: one that is run on data to
            be analyzed needs them; by default inputs of the plan's shapes.
        method: "regression": what was said. "mean": weights stay, and the mean of what the removed
            channels did is added where the intercept goes; a few samples do (Evci et al., Mean
            Replacement Pruning, 2018).
        mode: "sequential": each layer is repaired for what it reads once those before it are
            pruned and repaired, so errors do not add up; what all batches yield at one node of the
            graph, in the original and in the pruned model, is in memory at once. "parallel": all
            are repaired for what they read in the original, a batch at a time, which takes one run
            of the original and less memory.
        ridge: the penalty on what is added to weights, in units of the mean second moment of the
            kept channels (0.001). More is safer for few samples.
        norm: what statistics over pruned axes run over in the pruned model; see `shrink`.
        inputs: from a batch to what the model takes (a tensor, a tuple or a dict); by default the
            first item of a tuple or list, or the batch itself.
        progress: whether a bar is shown on the standard error stream.

    Returns:
        The repaired original, and how well each layer was repaired. With `torch.distributed`,
        each process passes its own batches, as many as the others, and all get the same repair.

    Raises:
        InputError: there are no batches, the model does not take them, values are not finite,
            weights have no data, or an argument is of no use.
        PlanError: the plan is for another model.
        CaptureError, AnalysisError: see `analyze`.
    """
    _check(method, mode, ridge)
    deps, plan = prepared(model, plan, example_inputs)
    values = Values(deps, batches, inputs)
    ridge = math.inf if method == "mean" else float(ridge)
    work = Work(deps, plan.layout(deps), norm, ridge, progress)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        (work.in_turn if mode == "sequential" else work.at_once)([*values])
    return work.outcome(values.count)


def _check(method: Any, mode: Any, ridge: Any) -> None:
    for name, value, known in (("method", method, Method), ("mode", mode, Mode)):
        if value not in get_args(known):
            raise InputError(
                f"{name}={shown(value)} is not known",
                hint=f"take one of {', '.join(get_args(known))}",
            )
    is_number = isinstance(ridge, (int, float)) and not isinstance(ridge, bool)
    if not is_number or not 0 <= ridge < math.inf:
        raise InputError(f"the ridge is {shown(ridge)}", why="it must be a number, 0 or more")
