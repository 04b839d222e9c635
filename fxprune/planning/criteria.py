"""The score of every channel; those with the lowest go first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.errors import InputError
from fxprune.importance import channel_scores
from fxprune.importance.criterion import pieces
from fxprune.importance.processes import agreed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.importance import Criterion, Reduction


def scores(
    deps: DependencyGraph,
    criterion: Criterion,
    reduction: Reduction = "sum",
    wanted: Sequence[Group] | None = None,
) -> NDArray[np.float64]:
    """The score of every id; 0 for one that nothing speaks of.

    Args:
        deps: the analysis of the model.
        criterion: see `fxprune.importance`.
        reduction: how the positions that carry a channel are put together.
        wanted: the groups of which channels are to be chosen; without any, no score is computed.

    Raises:
        InputError: the criterion cannot tell anything of a wanted group; a parameter is not finite
            or has no data; or processes of `torch.distributed` differ.
    """
    if wanted:
        agreed(deps, criterion, lambda: check_values(deps))
    else:
        check_values(deps)
    if wanted is not None and not wanted:
        return np.zeros(len(deps.trace.labels))
    found = channel_scores(criterion.evidence(deps), deps.trace.labels, reduction)
    found = criterion.finished(found)
    for group in (wanted or ()) if criterion.needs else ():
        if bool(np.isnan(found[group.ids]).any()):
            raise InputError(
                f"criterion {criterion} cannot score group {group.name}",
                why=f"it needs {criterion.needs}",
                hint="ignore the modules that produce the group, or take another criterion",
            )
    return np.where(np.isnan(found), 0.0, found)


def check_values(deps: DependencyGraph) -> None:
    """Parameters are finite; buffers may hold infinite values (an attention mask) but no NaN.

    Raises:
        InputError: they are not; tells which.
    """
    known = dict(deps.graph_module.named_parameters(remove_duplicate=False))
    for name, own in deps.state.items():
        tensor = own if deps.weights is None else deps.weights.get(name, own)
        if not tensor.is_floating_point() or tensor.device.type == "meta":
            continue
        is_parameter = name in known
        if not _adds_up(tensor.detach()) and any(
            _is_wrong(tensor[place], is_parameter) for place in pieces(tensor.shape)
        ):
            kind, what = (
                ("parameter", "NaN or infinite values") if is_parameter else ("buffer", "NaN")
            )
            raise InputError(
                f"{kind} {name} contains {what}", hint="mend the weights: no plan can rank them"
            )


def _adds_up(tensor: torch.Tensor) -> bool:
    """Whether the sum of all values is finite: then each is, which takes no mask to know."""
    if tensor.element_size() == 1:
        return False  # torch adds up no float8
    if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64):
        with np.errstate(all="ignore"):  # NumPy starts no threads, which takes long if all are busy
            return bool(np.isfinite(tensor.resolve_neg().numpy().sum()))
    return bool(torch.isfinite(tensor.sum()))


def _is_wrong(tensor: torch.Tensor, is_parameter: bool) -> bool:
    """Whether values are NaN, or infinite if they are of a parameter."""
    values = tensor.detach().float() if tensor.element_size() == 1 else tensor.detach()
    return bool((~torch.isfinite(values) if is_parameter else torch.isnan(values)).any())
