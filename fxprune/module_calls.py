"""What the modules of a masked original take and return, found without a copy of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fxprune.guarded_writes import Lent
from fxprune.interpretation import shadow_state
from fxprune.module_runs import MaskedModel
from fxprune.module_trees import clone_tree, named_tensors, own_object, to_meta
from fxprune.stepping import OriginalFailsError
from fxprune.traces import TracedTensor
from fxprune.values import mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import LabelAlgebra
    from fxprune.module_runs import ModuleCall, Part
    from fxprune.planning import Layout


@dataclass(frozen=True)
class FirstCall:
    """The first tensor that a module took in its first call, and the first that it returned."""

    taken: TracedTensor | None
    returned: TracedTensor | None

    @classmethod
    def of(cls, call: ModuleCall) -> FirstCall:
        """What tells the widths of a call."""
        return cls(_first(call.inputs), _first(call.outputs))


def _first(parts: Sequence[Part]) -> TracedTensor | None:
    return TracedTensor(parts[0].shape, parts[0].axes) if parts else None


def first_calls(
    deps: DependencyGraph, layout: Layout, arguments: Mapping[str, Any]
) -> tuple[Mapping[str, FirstCall], LabelAlgebra]:
    """The first calls of all modules of the original, run with removed positions masked.

    1. Only shapes and axes matter, so the model runs without data.
    2. Where forward decides by values, or needs data otherwise (positions that it makes itself say
       what is coupled), it runs on its own weights, one of which is masked at a time.
    3. Where it writes into these, it runs on copies.

    Args:
        deps: the analysis of the original, which is not changed.
        layout: what stays.
        arguments: values of forward's arguments by name.

    Returns:
        A call for the path of each module that is called, and the labels that its axes belong to.

    Raises:
        OriginalFailsError: the original does not run on these inputs.
    """
    if any(tensor.is_meta for tensor in deps.state.values()):
        return _run(deps, layout, arguments, shadow_state)
    if not deps.decisions:
        try:
            calls, labels = _run(deps, layout, mapped(to_meta, arguments), shadow_state)
        except OriginalFailsError:
            pass
        else:
            if not layout.is_coupled_otherwise(labels):
                return calls, labels
    lent = Lent(named_tensors(deps.model).values())
    try:
        with lent:
            found = _run(deps, layout, arguments, own_object)
    except OriginalFailsError:
        if not lent.is_written:
            raise
    else:
        if not lent.is_written:
            return found
    return _run(deps, layout, arguments, lambda tensor: tensor.detach().clone())


def _run(
    deps: DependencyGraph,
    layout: Layout,
    arguments: Mapping[str, Any],
    convert: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[Mapping[str, FirstCall], LabelAlgebra]:
    labels = deps.trace.labels.copy()
    twin = clone_tree(deps.model, convert)
    calls = MaskedModel(deps, layout, labels)(twin, arguments).calls
    return {call.path: FirstCall.of(call) for call in reversed(calls)}, labels
