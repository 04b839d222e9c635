"""Weights of a graph in the precision of a run, of which each is there while a node may read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fxprune.module_trees import as_parameter, attribute_at, clone_tree, eval_clone
from fxprune.values import memory, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import fx

    from fxprune.module_trees import Convert

_LARGE = 1 << 16
"""Parameters of fewer entries are cast once."""


class PassingWeights:
    """Casts large parameters when a node runs that may read them, and drops them after.

    1. A node reads what its module holds, wherever `clone_tree` looks, the attribute that it names,
       and what its operands are. All of that is there while it runs, and until the next one does.
    2. A parameter of which a view is left in the run stays as long as that.
    3. A parameter that was written into stays for good.
    4. What is not there is an empty tensor, on which operators of any other shape fail: a read that
       was not foreseen is an error and no wrong number.

    Args:
        graph_module: the graph, which is not changed.
        convert: makes a tensor for the run, the same in each call.
        prepare: is given each large parameter when it is there anew.

    Attributes:
        module: a copy of the graph in eval mode, to be run with `before` and `after` each node.
        changed: the parameters that nodes wrote into, by the ids of those of the graph.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        convert: Convert,
        prepare: Callable[[torch.Tensor], None] = lambda tensor: None,
    ) -> None:
        self._convert = convert
        self._prepare = prepare
        self._sources: dict[int, tuple[nn.Parameter, torch.Tensor]] = {}
        self._there: dict[int, int] = {}  # the memory of what is there: whose it is
        self._views: dict[int, list[fx.Node]] = {}
        self._held: dict[str, list[torch.Tensor]] = {}
        self._small: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.changed: dict[int, torch.Tensor] = {}
        self.module: fx.GraphModule = eval_clone(graph_module, self._placed)

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            return self._convert(tensor)
        if tensor.numel() < _LARGE:
            small = self._convert(tensor)
            self._small[memory(small)] = small, tensor
            return small
        place = as_parameter(self._convert(tensor.detach().new_empty(0)).detach(), tensor)
        assert isinstance(place, nn.Parameter)
        self._sources[id(place)] = place, tensor
        return place

    def is_passing(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor of the copy is there only while it is read."""
        return id(tensor) in self._sources

    def before(self, node: fx.Node, env: Mapping[fx.Node, Any]) -> None:
        """Let all be there that a node of `module` may read, and nothing else.

        Args:
            node: the node that is to run.
            env: the values of its operands, at least.
        """
        if not self._sources:
            return
        needed = list(self._held_at(node))
        for source in node.all_input_nodes:
            value = env.get(source)
            needed += [value] if isinstance(value, torch.Tensor) else tensors(value)
        wanted = {id(tensor) for tensor in needed} & self._sources.keys()
        for place, key in list(self._there.items()):
            if key not in wanted and not any(view in env for view in self._views.get(key, ())):
                self._drop(place)
        for key in wanted - set(self._there.values()):
            self._make(key)

    def after(self, node: fx.Node, value: Any, written: set[int]) -> None:
        """Note what a node did with the weights.

        Args:
            node: the node that ran.
            value: what it yielded.
            written: the memory that operators wrote into meanwhile.
        """
        for place in written & self._there.keys():
            passing, source = self._sources.pop(self._there.pop(place))
            self.changed[id(source)] = passing
        for place in written & self._small.keys():
            small, source = self._small[place]
            self.changed[id(source)] = small
        for tensor in tensors(value) if self._there else ():
            key = self._there.get(memory(tensor))
            if key is not None and key != id(tensor):
                self._views.setdefault(key, []).append(node)

    def _held_at(self, node: fx.Node) -> list[torch.Tensor]:
        """The tensors of a node's module, or its attribute."""
        path = str(node.target)
        if node.op == "call_module" and path not in self._held:
            self._held[path] = _all_tensors(self.module.get_submodule(path))
        elif node.op == "get_attr":
            return tensors(attribute_at(self.module, path))
        return self._held.get(path, []) if node.op == "call_module" else []

    def _make(self, key: int) -> None:
        place, source = self._sources[key]
        place.data = self._convert(source).detach()
        self._prepare(place)
        self._there[memory(place)] = key

    def _drop(self, place: int) -> None:
        key = self._there.pop(place)
        self._views.pop(key, None)
        parameter = self._sources[key][0]
        parameter.data = parameter.data.new_empty(0)


def _all_tensors(module: nn.Module) -> list[torch.Tensor]:
    """All tensors that a module holds, wherever `clone_tree` looks."""
    found: list[torch.Tensor] = []

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    clone_tree(module, noted)
    return found
