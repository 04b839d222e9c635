"""Parameters, bytes and multiply-accumulate operations of a graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import fx

from fxprune.module_trees import parameters_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from fxprune.analysis import DependencyGraph
    from fxprune.traces import Trace, TracedTensor


@dataclass(frozen=True)
class Cost:
    """Size and work of a model.

    Attributes:
        parameters: number of parameters (tied ones once).
        bytes: bytes of parameters and buffers.
        macs: multiply-accumulate operations of one forward on the example inputs, by the formulas
            of `torch.utils.flop_counter` (which counts two FLOPs for each).
    """

    parameters: int
    bytes: int
    macs: int


def cost_of(
    module: nn.Module, trace: Trace, shape: Callable[[TracedTensor], Sequence[int]]
) -> Cost:
    """The cost of a module, with MACs from the operators that the analysis saw.

    Nodes that a graph has lost, with a branch without channels, do no work.

    Args:
        module: the model, dense or shrunk.
        trace: the analysis of the dense model.
        shape: the shape of each tensor of the analysis in `module`.
    """
    return cost_with(module, macs_of(module, trace, shape))


def cost_with(module: nn.Module, macs: Counter[str]) -> Cost:
    """The cost of a module whose work is known by node."""
    parameters = parameters_in(module).values()
    state = [*parameters, *module.buffers()]
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        bytes=sum(t.numel() * t.element_size() for t in state),
        macs=macs.total(),
    )


def macs_of(
    module: nn.Module, trace: Trace, shape: Callable[[TracedTensor], Sequence[int]]
) -> Counter[str]:
    """The multiply-accumulate operations of a module by node; see `cost_of`."""
    macs = trace.macs(shape)
    if not isinstance(module, fx.GraphModule):
        return macs
    return Counter({n.name: macs[n.name] for n in module.graph.nodes if n.name in macs})


def undropped_cost(deps: DependencyGraph) -> Cost:
    """The cost of a user's whole model, with the blocks that were dropped from it if any were."""
    drop = deps.drop
    if drop is None:
        return cost_with(deps.graph_module, deps.trace.dense_macs)
    return replace(cost_with(drop.model, deps.trace.dense_macs), macs=drop.macs)
