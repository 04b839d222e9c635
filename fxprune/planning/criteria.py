"""The score of every channel; those with the lowest go first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.errors import InputError
from fxprune.importance import channel_scores

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
        InputError: the criterion cannot tell anything of a wanted group; or a
            parameter is not finite or has no data.
    """
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
    for name, tensor in deps.state.items():
        if not tensor.is_floating_point() or tensor.device.type == "meta":
            continue
        values = tensor.detach().float() if tensor.element_size() == 1 else tensor.detach()
        if bool(torch.isfinite(values.sum())):  # one pass without a mask, which is all it takes
            continue
        is_wrong = ~torch.isfinite(values) if name in known else torch.isnan(values)
        if bool(is_wrong.any()):
            kind, what = (
                ("parameter", "NaN or infinite values") if name in known else ("buffer", "NaN")
            )
            raise InputError(
                f"{kind} {name} contains {what}", hint="mend the weights: no plan can rank them"
            )
