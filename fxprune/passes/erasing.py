"""What may be erased of a graph, and what goes with it: nodes, modules, parameters and buffers."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from fxprune.module_trees import attribute_at
from fxprune.passes.inlining import hold_state_only
from fxprune.passes.repair import VIEWS, operation, writes
from fxprune.planning.branches import is_gone

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from torch import fx, nn

    from fxprune.planning import Layout

PREDICTED = "fxprune_predicted"
"""Where nodes that `DropBranches` makes keep their values, for the passes that follow."""
_GIVEN = ("placeholder", "get_attr")
_SPLITS = frozenset(
    {
        *("chunk", "split", "split_with_sizes", "tensor_split"),
        *("unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes"),
    }
)
"""Operators that return views of all positions, in pieces."""


def is_pure(node: fx.Node, graph_module: fx.GraphModule) -> bool:
    """Whether a node does nothing but return a value, or write where nobody reads."""
    if node.op in ("placeholder", "output") or node.is_impure():
        return False
    written = [source for source in node.all_input_nodes if writes(node, source, graph_module)]
    shared = {each for source in written for each in family(source, graph_module)}
    return all(each.op not in _GIVEN and shared.issuperset(each.users) for each in shared)


def is_written_later(node: fx.Node, other: fx.Node, graph_module: fx.GraphModule) -> bool:
    """Whether it would show that a node's value and an operand of it have become one tensor."""
    order = {each: number for number, each in enumerate(node.graph.nodes)}
    shared = family(other, graph_module, node) | family(node, graph_module, other)
    return any(
        each.op in _GIVEN
        or any(order[u] > order[node] and writes(u, each, graph_module) for u in each.users)
        for each in shared
    )


def family(
    node: fx.Node, graph_module: fx.GraphModule, without: fx.Node | None = None
) -> set[fx.Node]:
    """The nodes whose values may share memory with a node's, but for what another one adds."""

    def may_alias(user: fx.Node, source: fx.Node) -> bool:
        return operation(user, graph_module) in VIEWS or writes(user, source, graph_module)

    found, pending = {node}, [node]
    while pending:
        each = pending.pop()
        near = [user for user in each.users if may_alias(user, each)]
        near += [source for source in each.all_input_nodes if may_alias(each, source)]
        new = {n for n in near if n is not without} - found
        found |= new
        pending += new
    return found


def erase_pieces(graph_module: fx.GraphModule, layout: Layout) -> None:
    """Let splits go on without the pieces that have gone; what is left whole needs no split."""
    for node in list(graph_module.graph.nodes):
        if operation(node, graph_module) not in _SPLITS or not node.users:
            continue
        pieces = layout.tensors(node.name)
        left = [k for k, piece in enumerate(pieces) if not is_gone(piece, layout)]
        taken = {user: _index(user, len(pieces)) for user in node.users}
        if len(left) == len(pieces) or not all(index in left for index in taken.values()):
            continue
        if len(left) == 1:
            for user in taken:
                user.replace_all_uses_with(node.all_input_nodes[0])
        else:
            with graph_module.graph.inserting_before(node):
                new = graph_module.graph.node_copy(node)
            new.meta[PREDICTED] = tuple(pieces[k] for k in left)
            for user, index in taken.items():
                user.args = (new, left.index(index))
            taken = {}
        for each in (*taken, node):
            graph_module.graph.erase_node(each)


def _index(user: fx.Node, count: int) -> int:
    """Which piece of a split a node takes; -1 if it does something else."""
    index = user.args[1] if user.target is operator.getitem else None
    return index % count if isinstance(index, int) else -1


def erase_state(
    graph_module: fx.GraphModule, targets: Iterable[str], lowered: Collection[str]
) -> None:
    """Erase modules and tensors that no node uses any more.

    Args:
        graph_module: the graph, without the nodes that used them.
        targets: what was used by nodes that have gone.
        lowered: modules of which operators took the place; what is still read of these is held.
    """
    nodes = graph_module.graph.nodes
    calls = {str(node.target) for node in nodes if node.op == "call_module"}
    emptied = set(lowered) - calls
    for target in emptied:
        hold_state_only(graph_module, target)
    reads = [node for node in nodes if node.op == "get_attr"]
    used = calls | {str(node.target) for node in reads if node.users}
    for target in sorted(emptied | set(targets)):
        _delete(graph_module, target, [f"{each}." for each in used])
    for node in reads:
        if not node.users and not _has(graph_module, str(node.target)):
            graph_module.graph.erase_node(node)


def _delete(root: nn.Module, target: str, used: Collection[str]) -> None:
    """Delete a module or tensor, and the modules above it, as far as nothing in them is used."""
    if not target or any(f"{target}.".startswith(u) or u.startswith(f"{target}.") for u in used):
        return
    path, _, name = target.rpartition(".")
    if _has(root, target):  # it may have gone with a module that held it
        delattr(root.get_submodule(path), name)
    _delete(root, path, used)


def _has(root: nn.Module, target: str) -> bool:
    """Whether there is something at a dotted path."""
    try:
        attribute_at(root, target)
    except AttributeError:
        return False
    return True
