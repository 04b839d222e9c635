"""Questions about a dependency graph of networkx, and their answers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fxprune.errors import PlanError
from fxprune.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import networkx as nx


@dataclass(frozen=True)
class Touched:
    """What pruning a group changes.

    Attributes:
        parameters: name -> number of its entries that lie at a position of the group.
        ops: the operators whose values carry its channels, in the order of the graph.
        modules: the modules of these, each once.
    """

    parameters: Mapping[str, int]
    ops: tuple[str, ...]
    modules: tuple[str, ...]


def touched_by(graph: nx.DiGraph, group: str) -> Touched:
    """What pruning a group touches.

    Args:
        graph: what `deps.to_networkx()` returned.
        group: the group's name.

    Raises:
        PlanError: there is no such group.
    """
    edges = graph.out_edges(_group(graph, group), data=True)
    parameters = {key[1]: data["entries"] for _, key, data in edges if data["type"] == "member"}
    ops = [key for _, key, data in edges if data["type"] == "carried"]
    modules = dict.fromkeys(graph.nodes[key]["module"] for key in ops)
    return Touched(parameters, tuple(key[1] for key in ops), tuple(m for m in modules if m))


@dataclass(frozen=True)
class Blocked:
    """What stops a group.

    Attributes:
        reason: what happened; "" if nothing stops the group.
        by: the operator that what must stay comes from, such as an input; "" if there is none.
        at: the operator where its channels met what must stay; "" if there is none.
        hint: what would change it.
        way: the operators from the first that carries the group to `at`, by way of others that do,
            along and against the data; empty if there is no such way.
        others: the groups that the same operator stops for the same reason.
    """

    reason: str
    by: str = ""
    at: str = ""
    hint: str = ""
    way: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def blocked_by(graph: nx.DiGraph, group: str) -> Blocked:
    """What stops a group, and which others it stops too.

    Args:
        graph: what `deps.to_networkx()` returned.
        group: the group's name.

    Raises:
        PlanError: there is no such group.
    """
    key = _group(graph, group)
    data = graph.nodes[key]
    if not data["pinned"]:
        single = "" if data["prunable"] else "it has a single channel, and one always stays"
        return Blocked(single)
    names = ("pinned", "pinned_by", "hint")
    others = [
        other[1]
        for other, values in graph.nodes(data=True)
        if other != key
        and values["type"] == "group"
        and all(values[name] == data[name] for name in names)
    ]
    carriers = [op for _, op, edge in graph.out_edges(key, data=True) if edge["type"] == "carried"]
    way = _way(graph, carriers, ("op", data["pinned_at"]))
    where = (data["pinned_by"], data["pinned_at"])
    return Blocked(data["pinned"], *where, data["hint"], way, tuple(others))


def _way(
    graph: nx.DiGraph, carriers: Sequence[tuple[str, str]], goal: tuple[str, str]
) -> tuple[str, ...]:
    """The shortest way from the first of some operators to another, by way of them alone."""
    if not carriers or goal not in graph:
        return ()
    allowed, before = {*carriers, goal}, {carriers[0]: carriers[0]}
    pending = deque([carriers[0]])
    while pending and goal not in before:
        node = pending.popleft()
        for other in [*graph.successors(node), *graph.predecessors(node)]:
            if other in allowed and other not in before:
                before[other] = node
                pending.append(other)
    if goal not in before:
        return ()
    found = [goal]
    while found[-1] != carriers[0]:
        found.append(before[found[-1]])
    return tuple(name for _, name in reversed(found))


@dataclass(frozen=True)
class CriticalPath:
    """The way from an input to an output with the most work.

    Attributes:
        ops: its operators that multiply and add, in order, with their MACs.
        macs: their sum: what one forward takes at least, however much runs at the same time.
        total: the MACs of the whole model.
    """

    ops: Mapping[str, int]
    macs: int
    total: int


def critical_path(graph: nx.DiGraph) -> CriticalPath:
    """The chain of operators, each of which waits for the one before, with the most MACs.

    Args:
        graph: what `deps.to_networkx()` returned.
    """
    most: dict[str, int] = {}
    before: dict[str, str] = {}
    total = 0
    for (kind, name), data in graph.nodes(data=True):  # operators are in the order of the graph
        if kind != "op":
            continue
        sources = [key[1] for key in graph.predecessors((kind, name)) if key[0] == "op"]
        heaviest = max(sources, key=most.__getitem__, default="")
        most[name] = data["macs"] + most.get(heaviest, 0)
        before[name] = heaviest
        total += data["macs"]
    name = max(most, key=most.__getitem__, default="")
    length = most.get(name, 0)
    ops: dict[str, int] = {}
    while name:
        if macs := graph.nodes["op", name]["macs"]:
            ops[name] = macs
        name = before[name]
    return CriticalPath(dict(reversed(ops.items())), length, total)


def _group(graph: nx.DiGraph, name: str) -> tuple[str, str]:
    if ("group", name) not in graph:
        known = [key[1] for key in graph if key[0] == "group"]
        raise PlanError(f"no group is named {name!r}", hint=nearest(name, known))
    return ("group", name)
