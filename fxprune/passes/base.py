"""The pass protocol: a pass never changes its input; a pipeline is a pass."""

from __future__ import annotations

import abc
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import fx

from fxprune.errors import RewriteError
from fxprune.module_trees import clone_tree, restore_root

if TYPE_CHECKING:
    from fxprune.module_trees import Convert
    from fxprune.planning import Layout

_STALE = ("val", "tensor_meta", "example_value")


@dataclass(frozen=True)
class PassResult:
    """What a pass returns: the graph module, and whether it differs from the input."""

    graph_module: fx.GraphModule
    modified: bool


class Pass(abc.ABC):
    """A rewrite. Subclasses are frozen dataclasses whose fields are their options.

    Calling a pass leaves its input as it is: `copy` makes a private copy, `apply` changes that.
    `requires` and `ensures` raise a RewriteError if the input or the result is not what the pass
    promises.
    """

    @property
    def name(self) -> str:
        """The class name, for messages."""
        return type(self).__name__

    def requires(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """Check what the pass needs. By default: the graph is well-formed."""
        _lint(graph_module, f"{self.name} got a malformed graph")

    def copy(self, graph_module: fx.GraphModule, layout: Layout) -> fx.GraphModule:
        """A copy with modules and nodes of its own."""
        return fork(graph_module)

    @abc.abstractmethod
    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        """Do the rewrite on a private copy; tells whether it changed anything."""

    def ensures(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """Check what the pass promises. By default: the graph is well-formed."""
        _lint(graph_module, f"{self.name} made a malformed graph")

    def __call__(self, graph_module: fx.GraphModule, layout: Layout) -> PassResult:
        """Check, copy, rewrite, check."""
        self.requires(graph_module, layout)
        result = self.copy(graph_module, layout)
        modified = self.apply(result, layout)
        if modified:
            self.ensures(result, layout)
        return PassResult(result, modified)


@dataclass(frozen=True)
class Pipeline(Pass):
    """Passes one after another, on one copy: that of the first.

    Raises:
        RewriteError: a later pass needs a copy of its own (`SliceState` has to be the first).
    """

    passes: tuple[Pass, ...]

    def __post_init__(self) -> None:
        for step in self.passes[1:]:
            if _copies(step):
                raise RewriteError(f"{step.name} makes its own copy, so it has to be the first")

    def copy(self, graph_module: fx.GraphModule, layout: Layout) -> fx.GraphModule:
        """The copy that the first pass wants."""
        return self.passes[0].copy(graph_module, layout) if self.passes else fork(graph_module)

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        """Apply every pass, each followed by its own check."""
        modified = False
        for step in self.passes:
            if step.apply(graph_module, layout):
                step.ensures(graph_module, layout)
                modified = True
        return modified


def _copies(step: Pass) -> bool:
    if isinstance(step, Pipeline):
        return any(map(_copies, step.passes))
    return type(step).copy is not Pass.copy


def _lint(graph_module: fx.GraphModule, message: str) -> None:
    try:
        graph_module.graph.lint()
    except RuntimeError as error:
        raise RewriteError(f"{message}: {error}") from error


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def fork(graph_module: fx.GraphModule, convert: Convert = _same) -> fx.GraphModule:
    """A copy of a graph module with new modules and nodes; its tensors are `convert(tensor)`.

    Node names, hooks, train / eval flags and node metadata stay, but for shapes noted in the
    metadata, which are stale after a rewrite.
    """
    root = clone_tree(graph_module, convert)
    graph = copy.deepcopy(graph_module.graph)
    for node in graph.nodes:
        for key in _STALE:
            node.meta.pop(key, None)
    result = fx.GraphModule(root, graph, type(graph_module).__name__)
    result.meta = dict(graph_module.meta)
    restore_root(result, graph_module)
    return result
