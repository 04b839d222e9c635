"""Runs of the original and of the pruned model, node by node, on copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.analysis import DependencyGraph
from fxprune.errors import InputError
from fxprune.module_trees import as_parameter, eval_clone, named_state
from fxprune.readings.parts import Outcome, Part
from fxprune.readings.products import ReadingMode, Uses
from fxprune.reference import is_state, put_state, relabel
from fxprune.rules import axes_of, put_axes
from fxprune.stepping import Stepper
from fxprune.values import memory, tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import fx

    from fxprune.labels import Axis


class Run:
    """One batch on its way through a graph."""

    def __init__(
        self, name: str, module: fx.GraphModule, values: list[Any], mode: ReadingMode
    ) -> None:
        self.stepper = Stepper(name, module, values, mode)
        self.mode = mode
        self.value: Any = None

    def step(self, node: fx.Node, known: Any) -> list[Outcome]:
        """Run a node; what it read."""
        self.mode.found = []
        self.value = self.stepper.step(node)
        relabel(self.value, known, self.mode.labels)
        return self.mode.found

    def tried(self, node: fx.Node) -> list[Outcome]:
        """What a node reads; it is run on copies, and nothing stays."""
        self.mode.found = []
        self.stepper.tried(node, self._copy)
        return self.mode.found

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        if is_state(tensor):
            return tensor
        copy = tensor.clone()
        put_axes(copy, axes_of(tensor, self.mode.labels))
        return copy


@dataclass
class Copy:
    """A copy of the analyzed graph.

    Attributes:
        module: the copy.
        state: its stored tensors, each by its first name.
        names: the same names by the memory of the tensors.
    """

    module: fx.GraphModule
    state: dict[str, torch.Tensor]
    names: dict[int, str]

    @classmethod
    def of(cls, deps: DependencyGraph) -> Copy:
        """A copy with tensors of its own."""
        module: Any = eval_clone(deps.graph_module, lambda t: as_parameter(t.detach().clone(), t))
        named = named_state(module)
        put_state(named, deps.trace)
        state = {name: named[name] for name in named if deps.trace.tied[name] == name}
        return cls(module, state, {memory(tensor): name for name, tensor in state.items()})


def none(axis: Axis) -> NDArray[np.bool_]:
    """No position."""
    return np.zeros(axis.size, dtype=np.bool_)


def uses_of(deps: DependencyGraph, model: Copy, run: Run) -> Uses:
    """What is done with each weight, as one run of a copy shows, which is used up by it."""
    run.mode.uses = Uses()
    returned: list[torch.Tensor] = []
    for node in model.module.graph.nodes:
        run.step(node, deps.trace.values.get(node.name))
        if node.op == "output":
            returned = tensors(run.value)
    run.mode.finished(returned)
    run.mode.uses.parts += _sharing(deps, model)
    return run.mode.uses


def _sharing(deps: DependencyGraph, model: Copy) -> list[Part]:
    """The stored tensors that share memory with another one, as further uses of them.

    In a copy they do not.
    """
    by_memory: dict[int, list[tuple[str, Part]]] = {}
    for name in model.state:
        tensor, size = deps.state[name], deps.state[name].element_size()
        strides = (*(stride * size for stride in tensor.stride()), 1)
        place = Part("", (*tensor.shape, size), strides, int(tensor.storage_offset()) * size)
        by_memory.setdefault(memory(tensor), []).append((name, place))
    found = []
    for named in by_memory.values():
        for name, place in named:
            if any(place.overlaps(other) for own, other in named if own != name):
                twin = model.state[name]
                found.append(
                    Part(name, tuple(twin.shape), twin.stride(), int(twin.storage_offset()))
                )
    return found


def other_ways() -> InputError:
    """The error for batches of which some are read by other operators than the first is."""
    return InputError(
        "batches take different ways through the model",
        hint="pass batches of inputs like those that the model was analyzed with",
    )
