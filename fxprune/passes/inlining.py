"""Putting the graph of a node's computation in the place of the node."""

from __future__ import annotations

import operator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from fxprune.errors import RewriteError
from fxprune.rules import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fxprune.labels import Axis
    from fxprune.lowering import Lowered

_BUILDERS: dict[type, Any] = {tuple: tuple, list: list, dict: dict}


def inline(
    node: fx.Node,
    lowered: Lowered,
    graph_module: fx.GraphModule,
    instead: Mapping[str, fx.Node] = MappingProxyType({}),
) -> tuple[list[fx.Node], dict[str, Any], dict[str, Sequence[Axis]]]:
    """Put the operators of a node in front of it; the node itself becomes the last of them.

    So it keeps its name and its users. The module that it called stays as the holder of its
    parameters, which keep their names.

    Args:
        node: the node.
        lowered: its operators.
        graph_module: the graph that it is in.
        instead: nodes that took the place of others, by the names of these.

    Returns:
        The new nodes in order, without the node itself; the value of each by name; and the axes
        that they, or the node itself, look across in another way than summing.

    Raises:
        RewriteError: the node returns something else than tensors in tuples, lists and dicts.
    """
    graph = node.graph
    sources = {**instead, **{source.name: source for source in graph.nodes}}
    inner = list(lowered.graph.nodes)
    placeholders = [n for n in inner if n.op == "placeholder"]
    new: list[fx.Node] = []
    env: dict[fx.Node, Any] = {}
    values: dict[str, Any] = {}
    renormalized: dict[str, Sequence[Axis]] = {}

    def add(op: str, target: Any, arguments: tuple[Any, Any], name: str, value: Any) -> fx.Node:
        made = graph.create_node(op, target, *arguments, name=f"{node.name}_{name}")
        made.meta = {k: v for k, v in node.meta.items() if k in ("stack_trace", "nn_module_stack")}
        new.append(made)
        values[made.name] = value
        return made

    with graph.inserting_before(node):
        for placeholder, operand in zip(placeholders, lowered.operands, strict=False):
            env[placeholder] = sources[operand.node]
            for key in operand.path if placeholder.users else ():
                args: Any = ((env[placeholder], key), {})
                value = lowered.values[placeholder.name]
                env[placeholder] = add("call_function", operator.getitem, args, "item", value)
        own = placeholders[len(lowered.operands) :]
        for placeholder, name in zip(own, lowered.state, strict=True):
            if placeholder.users:
                short = name.rpartition(".")[2]
                value = lowered.values[placeholder.name]
                env[placeholder] = add("get_attr", name, ((), {}), short, value)
        for each in inner[len(placeholders) : -1]:
            target = each.target
            if each.op == "get_attr":
                target = _add_constant(graph_module, node, lowered.constants[str(target)])
            arguments = fx.map_arg((each.args, each.kwargs), lambda n: env[n])
            value = lowered.values[each.name]
            env[each] = add(each.op, target, arguments, each.name, value)
            if each.name in lowered.renormalized:
                renormalized[env[each].name] = lowered.renormalized[each.name]
    last = new[-1].name if new else ""
    _become(node, fx.map_arg(inner[-1].args[0], lambda n: env[n]), new)
    if last in renormalized and (not new or new[-1].name != last):
        renormalized[node.name] = renormalized.pop(last)
    return new, values, renormalized


def _become(node: fx.Node, result: Any, new: list[fx.Node]) -> None:
    """Turn a node into the one that yields the result."""
    node.op, node.kwargs = "call_function", {}
    node.meta.pop("is_wrapped", None)  # or fx would wrap the operator for all later tracing
    if not isinstance(result, fx.Node):
        if type(result) not in _BUILDERS and not isinstance(result, (tuple, list, dict)):
            raise RewriteError(
                f"node {node.name} cannot be lowered to its operators: it returns a "
                f"{type(result).__name__}",
                where=locate(node),
            )
        kind = next(kind for kind in _BUILDERS if isinstance(result, kind))
        node.target, node.args = _BUILDERS[kind], (result,)
    elif new and result is new[-1] and not result.users and result.op == "call_function":
        node.target, node.args, node.kwargs = result.target, result.args, result.kwargs
        node.graph.erase_node(new.pop())
    else:
        node.target, node.args = torch.ops.aten.alias.default, (result,)


def _add_constant(graph_module: fx.GraphModule, node: fx.Node, constant: torch.Tensor) -> str:
    """Keep a tensor as a buffer that is not part of the state dict."""
    name = f"{node.name}_constant"
    while hasattr(graph_module, name):
        name += "_"
    graph_module.register_buffer(name, constant.clone(), persistent=False)
    return name


def hold_state_only(graph_module: fx.GraphModule, target: str) -> None:
    """Replace a module that no node calls any more by a plain holder of its tensors."""
    graph_module.set_submodule(target, _holder(graph_module.get_submodule(target)))


def _holder(module: nn.Module) -> nn.Module:
    holder = nn.Module()
    holder.training = module.training
    holder._parameters.update(module._parameters)
    holder._buffers.update(module._buffers)
    holder._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    for name, child in module.named_children():
        holder.add_module(name, _holder(child))
    return holder
