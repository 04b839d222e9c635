"""From the operators of a graph to the nodes of a picture: which belong together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fxprune.drawing.naming import is_silent
from fxprune.rules.place import module_path
from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from torch import fx

    from fxprune.analysis import DependencyGraph
    from fxprune.drawing.pictures import Level

ENDS = ("placeholder", "output")


@dataclass
class Part:
    """Operators that become one node: a module's, or some between the calls of modules.

    `heavy` says that it multiplies and adds, `weighted` that it does so with weights.
    """

    path: str
    parent: str
    ops: list[fx.Node]
    heavy: bool
    weighted: bool = False
    sources: dict[fx.Node, None] = field(default_factory=dict)


class Condenser:
    """Decides which operators are drawn, and which of them as one node.

    1. Mentions of parameters are no nodes, nor is what carries no tensor (sizes).
    2. Nor, with level "module", is what is computed of parameters alone, nor are integers that are
       computed of such integers or of inputs alone: position numbers and masks. What reads these
       reads the inputs.
    3. With level "module", what only moves data of one operator belongs to that.
    4. So do operators that run one after another in the same module belong to the first of them.
       Between the calls of a module's children, a product with weights is a node by itself.
    5. What does not multiply and add joins the only node that it reads, if it is the only one that
       reads that, and lies in the same module: conv, batch norm and relu are one node.

    There are no cycles: without case 3 and 5 parts are intervals of the graph's order, and what
    reads one part only can be joined to it.
    """

    def __init__(self, deps: DependencyGraph, level: Level) -> None:
        self.deps = deps
        self.level = level
        self.nodes: list[fx.Node] = list(deps.graph_module.graph.nodes)
        self.heavy = {work.node for work in deps.trace.work}
        self.of_state = self._of_state()
        self.drawn = self._drawn()
        self.origins = self._found_origins()
        self.containers = {""}
        for node in self.drawn:
            path = module_path(node).rpartition(".")[0]
            while path not in self.containers:
                self.containers.add(path)
                path = path.rpartition(".")[0]

    def _of_state(self) -> set[fx.Node]:
        """Mentions of parameters, and what is computed of these without products."""
        found: set[fx.Node] = set()
        for node in self.nodes:
            sources = node.all_input_nodes
            is_light = node.op.startswith("call") and node.name not in self.heavy
            if node.op == "get_attr" or (is_light and sources and found.issuperset(sources)):
                found.add(node)
        return found

    def _drawn(self) -> set[fx.Node]:
        found: set[fx.Node] = set()
        for node in self.nodes:
            tensors = traced_tensors(self.deps.trace.values.get(node.name))
            if node.op in ENDS:
                if tensors or node.op == "output":
                    found.add(node)
            elif node.op != "get_attr" and tensors and not self._is_helper(node, found):
                found.add(node)
        return found

    def _is_helper(self, node: fx.Node, drawn: set[fx.Node]) -> bool:
        """Case 2. A tensor of integers has no label vectors."""
        if self.level == "op":
            return False
        if node in self.of_state:
            return True
        if node.op == "call_module" or _is_floating(self.deps, node):
            return False
        return all(n.op == "placeholder" or n not in drawn for n in node.all_input_nodes)

    def _found_origins(self) -> dict[fx.Node, tuple[fx.Node, ...]]:
        """The drawn nodes that values come from: themselves, or those that they are computed of."""
        found: dict[fx.Node, tuple[fx.Node, ...]] = {}
        for node in self.nodes:
            if node in self.drawn:
                found[node] = (node,)
                continue
            tensors = traced_tensors(self.deps.trace.values.get(node.name))
            sources = node.all_input_nodes if tensors else ()
            found[node] = tuple(dict.fromkeys(o for n in sources for o in found[n]))
        return found

    def parts(self) -> list[Part]:
        """The nodes of the picture, in the order of the graph."""
        found: list[Part] = []
        part_of: dict[fx.Node, Part] = {}
        for node in self.nodes:
            if node not in self.drawn:
                continue
            sources = dict.fromkeys(o for n in node.all_input_nodes for o in self.origins[n])
            part = self._alone(node)
            if self.level == "module" and self._only_moves(node, sources):
                part = part_of[next(iter(sources))]
                part.ops.append(node)
            elif self.level == "module" and found and self._continues(found[-1], part):
                found[-1].heavy |= part.heavy
                part = found[-1]
                part.ops.append(node)
            else:
                found.append(part)
            part_of[node] = part
            part.sources |= {each: None for each in sources if part_of[each] is not part}
        return found if self.level == "op" else list(self._joined(found))

    def _only_moves(self, node: fx.Node, sources: Collection[fx.Node]) -> bool:
        """Case 3."""
        return (
            is_silent(node, self.deps.model)
            and len(sources) == 1
            and not any(source.op in ENDS for source in sources)
        )

    def _alone(self, node: fx.Node) -> Part:
        path = module_path(node)
        if node.op in ENDS:
            return Part("", "", [node], heavy=True)
        parent = path if self._is_loose(node, path) else path.rpartition(".")[0]
        heavy = node.name in self.heavy
        weighted = heavy and not self.of_state.isdisjoint(node.all_input_nodes)
        return Part(path, parent, [node], heavy, weighted)

    def _is_loose(self, node: fx.Node, path: str) -> bool:
        """Whether an operator stands in the forward of a module that calls others."""
        return node.op != "call_module" and (path in self.containers or self.level == "op")

    def _continues(self, last: Part, part: Part) -> bool:
        """Case 4."""
        first, node = last.ops[0], part.ops[0]
        if {first.op, node.op} & {*ENDS, "call_module"} or last.path != part.path:
            return False
        return part.path not in self.containers or not (last.weighted or part.weighted)

    def _joined(self, parts: list[Part]) -> Iterator[Part]:
        """Case 5."""
        part_of = {op: part for part in parts for op in part.ops}
        readers: dict[int, set[int]] = {}
        for part in parts:
            for source in part.sources:
                readers.setdefault(id(part_of[source]), set()).add(id(part))
        into: dict[int, Part] = {}
        for part in parts:
            sources = {id(part_of[s]): part_of[s] for s in part.sources}
            (only,) = sources.values() if len(sources) == 1 else (None,)
            if (
                only is not None
                and not part.heavy
                and len(readers[id(only)]) == 1
                and only.parent == part.parent
                and only.ops[0].op not in ENDS
            ):
                into[id(part)] = target = into.get(id(only), only)
                target.ops += part.ops
                continue
            yield part


def flows(parts: Sequence[Part]) -> dict[tuple[str, str], list[fx.Node]]:
    """For each two nodes that data flows between, by their names, the operators that yield it."""
    name_of = {op: part.ops[0].name for part in parts for op in part.ops}
    found: dict[tuple[str, str], list[fx.Node]] = {}
    for part in parts:
        for source in part.sources:
            found.setdefault((name_of[source], part.ops[0].name), []).append(source)
    return found


def _is_floating(deps: DependencyGraph, node: fx.Node) -> bool:
    tensors = traced_tensors(deps.trace.values.get(node.name))
    return any(t.dtype is None or t.dtype.is_floating_point or t.dtype.is_complex for t in tensors)
