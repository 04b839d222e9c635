"""The bytes of whole models, with what a rewrite adds to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.cost import cost_of, undropped_cost
from fxprune.errors import RewriteError
from fxprune.passes import shrink_pipeline
from fxprune.planning import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Ids


def rewritten_bytes(deps: DependencyGraph) -> Callable[[Ids], float | None]:
    """What tells which share of the dense model's bytes the graph of a removal has.

    The graph is built, for a rewrite adds buffers: new positions where pruned channels are indexed
    with a tensor, constants of branches that go, and tensors that lowered nodes make. None stands
    for a graph that cannot be built.
    """
    dense = undropped_cost(deps).bytes

    def share(removed: Ids) -> float | None:
        layout = Layout(deps, removed)
        try:
            small = shrink_pipeline("kept")(deps.graph_module, layout).graph_module
        except RewriteError:
            return None
        return cost_of(small, deps.trace, layout.shape).bytes / (dense or 1)

    return share
