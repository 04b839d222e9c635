"""Repairing what reads removed channels, layer by layer or all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch

from fxprune.analysis import Model
from fxprune.errors import InputError, shown
from fxprune.importance.processes import jointly
from fxprune.importance.running import collected, first
from fxprune.reconstruction.norm_reads import Norms
from fxprune.reconstruction.preparing import prepared
from fxprune.reconstruction.results import Reconstruction
from fxprune.reconstruction.work import Method, Work
from fxprune.stepping import OriginalFailsError
from fxprune.surroundings import undisturbed

if TYPE_CHECKING:
    import os

    from fxprune.meaning import Norm
    from fxprune.planning import Plan

Mode: TypeAlias = Literal["sequential", "parallel"]
"""For what layers are repaired; see `reconstruct`."""
_OTHER_INPUTS = (
    "tell what the model takes of a batch (by default the first item of a tuple or list, or all of"
    " it): fxprune.reconstruct(..., inputs=lambda batch: ...), and shrink the model of that"
)


@undisturbed()
def reconstruct(
    model: Model,
    plan: Plan | str | os.PathLike[str],
    batches: Iterable[Any],
    example_inputs: Any = None,
    *,
    method: Method = "regression",
    mode: Mode = "sequential",
    norms: Norms = "refit",
    ridge: float | None = None,
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

    What is then missing on average over all places goes into the layer's bias; without one, into
    the running mean of a batch norm that alone reads the layer; without either it stays. New
    weights are kept if the layer is nearer to the original with them, on these batches. A layer is
    left as it is, with the reason, if it passes channels through one by one (a depthwise
    convolution), is a transposed convolution, or shares its weight with another one.

    The scale and shift of a norm are repaired as well, for it yields something else once channels
    before it are gone: each channel that is kept gets the line that explains best what the norm
    yielded in the original by what it yields now. That is done for batch norms, layer, group and
    instance norms, root mean square norms and layer scales (a product with a stored vector). A norm
    without a shift gets a scale only; one whose scale is used twice, or computed of other tensors,
    is left as it is, with the reason.

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
            Replacement Pruning, 2018). "none": layers stay as they are, and norms are repaired.
        mode: "sequential": each layer is repaired for what it reads once those before it are
            pruned and repaired, so errors do not add up; all batches go through both models
            together, and what later nodes need of all of them is in memory at once. "parallel": all
            are repaired for what they read in the original, a batch at a time, in two runs of it;
            the second moments of all layers are in memory at once. Of norms it makes up for
            statistics over pruned axes only, and not for those of root mean square norms, which
            consist of several operators.
        norms: "refit": norms get the scale and shift that were said, by ridge regression on the
            difference of the scale from what it is. "reestimate": the running mean and variance of
            batch norms become those of what they read in the pruned model: the mean and the
            unbiased variance (Ioffe and Szegedy, Batch Normalization, 2015, algorithm 2) over all
            rows of all batches, each with the same weight; `torch.optim.swa_utils.update_bn` finds
            the same if there is one batch. Of use for pruned models by Li et al., EagleEye, 2020;
            sequential mode only. "keep": norms stay as they are. Whatever makes the outcome of a
            norm worse is taken back.
        ridge: the penalty on what is added to weights, and on factors of scales less 1, in units of
            the mean second moment of the kept channels. More is safer for few samples. By default
            0.001 and the number of channels for each row (sample and place) that there is.
        norm: what statistics over pruned axes run over in the pruned model; see `shrink`.
        inputs: from a batch to what the model takes (a tensor, a tuple or a dict); by default the
            first item of a tuple or list, or the batch itself.
        progress: whether a bar is shown on the standard error stream.

    Returns:
        The repaired original, and how well each layer and norm was repaired. With
        `torch.distributed`, each process passes its own batches, as many as the others, and all get
        the same repair.

    Raises:
        InputError: there are no batches, the model does not take them, values are not finite,
            weights have no data, or an argument is of no use.
        PlanError: the plan is for another model.
        CaptureError, AnalysisError: see `analyze`.
    """
    _check(method, mode, norms, ridge)
    deps, plan = prepared(model, plan, example_inputs)
    values, _ = jointly(
        deps, lambda: collected(deps, batches, inputs, "a repair", _OTHER_INPUTS), lambda _: None
    )
    work = Work(deps, plan.layout(deps), norm, ridge, method, norms, progress)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            (work.in_turn if mode == "sequential" else work.at_once)(values)
    except OriginalFailsError as error:
        hint = f"{error.hint}; or {_OTHER_INPUTS}" if error.hint else _OTHER_INPUTS
        raise OriginalFailsError(error.what, where=error.where, why=error.why, hint=hint) from error
    return work.outcome(len(values))


def _check(method: Any, mode: Any, norms: Any, ridge: Any) -> None:
    choices = (("method", method, Method), ("mode", mode, Mode), ("norms", norms, Norms))
    for name, value, known in choices:
        if value not in get_args(known):
            raise InputError(
                f"{name}={shown(value)} is not known",
                hint=f"take one of {', '.join(get_args(known))}",
            )
    if norms == "reestimate" and mode == "parallel":
        raise InputError(
            'norms="reestimate" and mode="parallel" together are of no use',
            why="in parallel mode batch norms read what they do in the original, whose statistics"
            " they have",
            hint='pass mode="sequential", or norms="refit"',
        )
    if norms == "keep" and method == "none":
        raise InputError(
            'method="none" and norms="keep" together repair nothing',
            hint='pass another method, or norms="refit" or norms="reestimate"',
        )
    is_number = isinstance(ridge, (int, float)) and not isinstance(ridge, bool)
    if ridge is not None and not (is_number and 0 <= ridge < math.inf):
        raise InputError(f"the ridge is {shown(ridge)}", why="it must be a number, 0 or more")
