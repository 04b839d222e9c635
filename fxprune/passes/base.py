"""The pass protocol: a pass never changes its input; a pipeline is a pass."""

from __future__ import annotations

import abc
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import fx, nn

from fxprune.errors import RewriteError
from fxprune.module_trees import clone_tree

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

    `requires` and `ensures` raise a RewriteError if the input or the result is not what the pass
    promises; `call` does the work on a copy (see `fork`) and leaves its input as it is.
    """

    @property
    def name(self) -> str:
        """The class name, for messages."""
        return type(self).__name__

    def requires(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """Check what the pass needs. By default: the graph is well-formed."""
        try:
            graph_module.graph.lint()
        except RuntimeError as error:
            raise RewriteError(f"{self.name} got a malformed graph: {error}") from error

    @abc.abstractmethod
    def call(self, graph_module: fx.GraphModule, layout: Layout) -> PassResult:
        """Do the rewrite."""

    def ensures(self, result: PassResult, layout: Layout) -> None:
        """Check what the pass promises. By default: the graph is well-formed."""
        try:
            result.graph_module.graph.lint()
        except RuntimeError as error:
            raise RewriteError(f"{self.name} made a malformed graph: {error}") from error

    def __call__(self, graph_module: fx.GraphModule, layout: Layout) -> PassResult:
        """Check, rewrite, check."""
        self.requires(graph_module, layout)
        result = self.call(graph_module, layout)
        if result.modified:
            self.ensures(result, layout)
        return result


@dataclass(frozen=True)
class Pipeline(Pass):
    """Passes one after another."""

    passes: tuple[Pass, ...]

    def call(self, graph_module: fx.GraphModule, layout: Layout) -> PassResult:
        """Run every pass on the result of the one before."""
        modified = False
        for step in self.passes:
            result = step(graph_module, layout)
            graph_module, modified = result.graph_module, modified or result.modified
        return PassResult(graph_module, modified)

    def requires(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """The passes check for themselves."""

    def ensures(self, result: PassResult, layout: Layout) -> None:
        """The passes check for themselves."""


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
    for name, module in result.named_modules():
        if name and type(module) is nn.Module:
            module.training = graph_module.get_submodule(name).training
    return result
