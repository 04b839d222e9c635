"""A node under repair, and the plain name of what it calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import fx

from fxprune.errors import RewriteError
from fxprune.module_trees import module_at
from fxprune.rules import locate
from fxprune.traces import TracedTensor
from fxprune.tracing import IN_PLACE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fxprune.planning import Layout


@dataclass(frozen=True)
class Repair:
    """A node under repair, with what is known of its operands before and after."""

    node: fx.Node
    graph_module: fx.GraphModule
    layout: Layout

    def original(self, argument: Any) -> Any:
        """What an argument was in the original: nodes replaced by their values."""
        return fx.map_arg(argument, lambda n: self.layout.value(n.name))

    def argument(self, position: int, *names: str, default: Any = None) -> Any:
        """An argument by position or by one of its names, as it stands in the node."""
        if position < len(self.node.args):
            return self.node.args[position]
        return next((self.node.kwargs[n] for n in names if n in self.node.kwargs), default)

    def set(self, position: int, names: Sequence[str], value: Any) -> bool:
        """Change an argument where it stands; tells whether it differs."""
        if position < len(self.node.args):
            if self.node.args[position] == value:
                return False
            self.node.update_arg(position, value)
            return True
        name = next((n for n in names if n in self.node.kwargs), names[0])
        if self.node.kwargs.get(name) == value:
            return False
        self.node.update_kwarg(name, value)
        return True

    @property
    def operand(self) -> TracedTensor:
        """The first tensor operand, as the analysis saw it."""
        return self.layout.tensors(self.node.all_input_nodes[0].name)[0]

    @property
    def outputs(self) -> list[TracedTensor]:
        """The tensors of the node's value, as the analysis saw them."""
        return self.layout.tensors(self.node.name)

    def kept(self, dim: int) -> NDArray[np.int64]:
        """The kept positions of a dim of the first operand."""
        axis = self.operand.axes[dim]
        kept = self.layout.kept(axis)
        return np.arange(axis.size) if kept is None else kept

    def is_pruned(self, dim: int) -> bool:
        """Whether the first operand loses positions along a dim."""
        return self.layout.kept(self.operand.axes[dim]) is not None

    def dim(self, position: int, *, default: int = 0) -> int:
        """A dim argument, counted from the front."""
        return int(self.argument(position, "dim", "axis", default=default)) % len(self.operand.axes)

    def names_pruned_axis(self) -> bool:
        """Whether an operand or output loses positions."""
        tensors = [t for n in self.node.all_input_nodes for t in self.layout.tensors(n.name)]
        return any(self.layout.shape(t) != t.shape for t in tensors + self.outputs)

    def is_written_to(self) -> bool:
        """Whether the node's value, or a view of it, is the target of an in-place operator."""
        seen, pending = {self.node}, [self.node]
        while pending:
            node = pending.pop()
            for user in node.users:
                if writes(user, node, self.graph_module):
                    return True
                if user not in seen and operation(user, self.graph_module) in VIEWS:
                    seen.add(user)
                    pending.append(user)
        return False

    def operand_shapes(self) -> list[tuple[int, ...]]:
        """The new shapes of all tensor operands."""
        nodes = self.node.all_input_nodes
        return [self.layout.shape(t) for n in nodes for t in self.layout.tensors(n.name)]

    def fail(self, why: str) -> RewriteError:
        """An error that names the node."""
        return RewriteError(
            f"node {self.node.name} cannot be repaired",
            where=locate(self.node),
            why=why,
            hint="ignore the groups that reach it",
        )


VIEWS = frozenset(
    {
        *("getitem", "getattr", "slice", "select", "narrow", "diagonal", "unfold", "as_strided"),
        *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "squeeze"),
        *("transpose", "t", "permute", "movedim", "swapaxes", "swapdims", "unsqueeze"),
        *("expand", "expand_as", "chunk", "split", "split_with_sizes", "tensor_split", "unbind"),
        *("detach", "alias", "real", "imag", "view_as_real", "view_as_complex", "contiguous"),
        *("to", "float", "double", "half", "Flatten", "Unflatten", "Identity"),
    }
)
"""What can return a view of its operand, by plain name."""


def writes(user: fx.Node, node: fx.Node, graph_module: fx.GraphModule) -> bool:
    """Whether a node writes into an operand of it."""
    if user.kwargs.get("out") is node:
        return True
    if not user.args or user.args[0] is not node:
        return False
    if user.kwargs.get("inplace") is True:
        return True
    if user.op == "call_module":
        return bool(getattr(module_at(graph_module, str(user.target)), "inplace", False))
    if isinstance(user.target, torch._ops.OpOverload):
        return user.target._schema.is_mutable
    name = str(getattr(user.target, "__name__", user.target))
    named_so = name == "setitem" or (name.endswith("_") and not name.endswith("__"))
    return named_so or user.target in IN_PLACE


Change: TypeAlias = Callable[[Repair], bool]


def operation(node: fx.Node, graph_module: fx.GraphModule) -> str:
    """The plain name of what a node calls."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    if node.op == "call_module":
        return type(module_at(graph_module, str(node.target))).__name__
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target._schema.name.split("::")[1].rstrip("_"))
    return str(getattr(node.target, "__name__", node.target)).rstrip("_")
