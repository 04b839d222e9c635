"""Branches without channels: constants take their place, and their nodes and weights go."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from fxprune.errors import RewriteError
from fxprune.labels import Axis
from fxprune.lowering import Lowering
from fxprune.module_trees import named_tensors
from fxprune.passes.base import Pass
from fxprune.passes.branch_constants import (
    HINT,
    Branches,
    Meeting,
    constant_of,
    is_channels,
    refusal,
)
from fxprune.passes.erasing import (
    PREDICTED,
    erase_pieces,
    erase_state,
    is_pure,
    is_written_later,
)
from fxprune.passes.inlining import inline
from fxprune.passes.numbers import measures_channels_only, read_axes, replace_by_number
from fxprune.passes.repair import operation, writes
from fxprune.planning.branches import kinds_of, operands
from fxprune.traces import TracedTensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fxprune.meaning import Norm
    from fxprune.planning import Layout
    from fxprune.planning.branches import Kind

ACROSS = "fxprune_across"
"""Where nodes that lowering makes keep the axes that they look across, but not by summing."""
STANDS_FOR = "fxprune_stands_for"
"""Where nodes keep the names of those that were left out because they would return the same."""
_CATS = frozenset({"cat", "concat", "concatenate"})
_JOINS = _CATS | {"stack"}
_POINTWISE = frozenset(
    {
        *("add", "iadd", "sub", "isub", "subtract", "rsub", "mul", "imul", "multiply"),
        *("div", "truediv", "itruediv", "divide", "true_divide", "maximum", "minimum", "pow"),
        *("where", "lerp", "addcmul", "addcdiv", "atan2", "hypot", "expand_as"),
    }
)
"""Operators that take a constant for any operand, if it broadcasts."""
_NEUTRAL = {
    **dict.fromkeys(("add", "iadd", "sub", "isub", "subtract"), 0),
    **dict.fromkeys(("mul", "imul", "multiply", "div", "truediv", "itruediv", "divide"), 1),
}
"""The constant that leaves the other operand as it is."""
_EITHER_SIDE = frozenset({"add", "iadd", "mul", "imul", "multiply"})
_OUT_OF_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


@dataclass(frozen=True)
class DropBranches(Pass):
    """Take out what carries nothing but axes without positions, and what follows from it alone.

    1. A node hides such an axis if it has it in its own weights or inside, and not in its value (a
       whole attention, an encoder layer): its operators take its place.
    2. A node that reads what has gone, and else only constants and weights, is constant: what it
       yields for the masked original in eval mode.
    3. Where a constant meets what depends on the inputs, in an operator that goes position by
       position, it becomes a buffer with one position along every dim but channels. An addition
       of 0 and a multiplication by 1 go.
    4. A concatenation goes on without parts that have gone, a split without pieces; parts of a
       concatenation or a stack that are constant are expanded.
    5. Anything else that needs what has gone is an error that names the node.
    6. Nodes that nothing reads any more, their modules, parameters and buffers are erased.

    If the result was made before, and its tensors are `known`, constants are those among them: the
    graph need not have the weights that they were computed of.

    Raises:
        RewriteError: a constant differs from place to place, or cannot be taken by what reads it.
    """

    norm: Norm = "kept"
    known: Mapping[str, torch.Tensor] | None = None

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        """Take branches out, if there are any."""
        if not layout.emptied:
            return False
        _Removal(graph_module, layout, self.norm, self.known).run()
        graph_module.recompile()
        return True

    def ensures(self, graph_module: fx.GraphModule, layout: Layout) -> None:
        """No parameter or buffer is left that has lost all its positions."""
        super().ensures(graph_module, layout)
        for name, tensor in named_tensors(graph_module).items():
            before = layout.deps.state.get(name)
            if before is not None and before.numel() and not tensor.numel():
                raise RewriteError(
                    f"{name} would be left without positions",
                    why="what reads it does not go with the branch",
                    hint=HINT,
                )


class _Removal:
    """One run of the pass over a graph."""

    def __init__(
        self,
        graph_module: fx.GraphModule,
        layout: Layout,
        norm: Norm,
        known: Mapping[str, torch.Tensor] | None,
    ) -> None:
        self.graph_module = graph_module
        self.graph = graph_module.graph
        self.layout = layout
        self.norm = norm
        self.known = known
        self.emptied: set[str] = set()
        self.added: set[str] = set()
        self.kinds: dict[str, Kind] = {}
        self.needless: dict[fx.Node, fx.Node] = {}

    def run(self) -> None:
        """Lower what hides what has gone; let constants take the place of branches; clean up."""
        self.lower()
        meetings = [node for node in self.graph.nodes if self.meets(node)]
        constants = [n for n in meetings if operands(n, self.kinds, ["constant"])]
        branches = Branches(self.graph_module, self.layout, self.kinds, constants, self.norm)
        runs = list(branches.run()) if constants else []
        for node in meetings:
            self.join(node, runs)
        for node in self.needless:  # until here, nodes have the names that the runs know
            self.leave_out(node)
        self.erase()

    # -- what cannot stay as it is ----------------------------------------------------------

    def lower(self) -> None:
        """Put operators in the place of nodes that hide what has gone."""
        lowering, lowered = Lowering(self.layout.deps), set[str]()
        self.kinds = kinds_of(self.graph, self.layout)
        while (node := next(filter(self.is_hiding, self.graph.nodes), None)) is not None:
            problem = self.problem(node) or f"{node.target} loses all channels inside"
            is_known = node.name in lowering.nodes and node.name not in lowered
            if not is_known or isinstance(node.target, torch._ops.OpOverload):
                raise refusal(node, problem)
            try:
                inner = lowering.lower(node.name)
            except RewriteError as error:
                raise refusal(node, f"{problem}; {error.what}") from error
            lowered.add(node.name)
            if node.op == "call_module":
                self.emptied.add(str(node.target))
            made, values, across = inline(node, inner, self.graph_module)
            self.layout = self.layout.extended(values)
            for each in (*made, node):
                if each is not node:
                    each.meta[PREDICTED] = values[each.name]
                each.meta[ACROSS] = across.get(each.name, ())
            self.kinds = kinds_of(self.graph, self.layout)
        output = next(iter(reversed(self.graph.nodes)))
        if problem := self.problem(output):
            raise refusal(output, problem)

    def is_hiding(self, node: fx.Node) -> bool:
        """Whether a node has to be lowered to go on without what has gone."""
        kind = self.kinds[node.name]
        if kind not in ("live", "constant") or node.op in ("placeholder", "output"):
            return False
        return bool(self.problem(node)) or self.has_empty_state(node)

    def has_empty_state(self, node: fx.Node) -> bool:
        """Whether a module has an axis without positions that its operands do not explain."""
        if node.op != "call_module" or operands(node, self.kinds, ["gone"]):
            return False
        return any(
            not self.layout.size(axis)
            for name, axes in self.layout.deps.trace.axes.items()
            if name.startswith(f"{node.target}.")
            for axis in axes
            if axis.size
        )

    def problem(self, node: fx.Node) -> str:
        """Why a node that depends on the inputs cannot do without what has gone, if so."""
        if self.kinds[node.name] != "live":
            return ""
        name = self.operator(node)
        gone = operands(node, self.kinds, ["gone"])
        constant = operands(node, self.kinds, ["constant"])
        is_cat = name in _CATS or (name == "stack" and not gone)
        if is_cat and isinstance(_parts(node), (list, tuple)):
            return ""
        if gone:
            return f"it reads {gone[0].name}, of which nothing is left, beside what is"
        if constant and node.op == "output":
            return f"it returns {constant[0].name}, which no longer depends on the inputs"
        if constant and (name not in _POINTWISE or "out" in node.kwargs):
            name = operation(node, self.graph_module)
            return f"{name!r} takes {constant[0].name}, which no longer depends on the inputs"
        numbers = [n for n in operands(node, self.kinds, ["number"]) if not self.is_fixed(n)]
        if numbers:
            return f"it uses {numbers[0].name}, a size of what has gone"
        return ""

    def operator(self, node: fx.Node) -> str:
        """The plain name of what a node calls if that is an operator of torch, else nothing."""
        home = str(getattr(node.target, "__module__", "")).partition(".")[0]
        is_own = node.op == "call_method" or home in ("torch", "_operator")
        if isinstance(node.target, torch._ops.OpOverload):
            is_own = node.target.namespace == "aten"
        return operation(node, self.graph_module) if is_own else ""

    def is_fixed(self, node: fx.Node) -> bool:
        """Whether a number that was computed of sizes counts nothing but channels."""
        if not isinstance(self.layout.value(node.name), (int, float)):
            return False
        axes = read_axes(node, self.layout)
        if axes is not None:
            return all(measures_channels_only(node, axis, self.layout) for axis in axes)
        return all(
            self.kinds[n.name] == "number" and self.is_fixed(n) for n in node.all_input_nodes
        )

    def meets(self, node: fx.Node) -> bool:
        """Whether a node that stays reads what does not."""
        is_live = self.kinds[node.name] == "live"
        return is_live and bool(operands(node, self.kinds, ["gone", "constant", "number"]))

    # -- where branches meet what stays -------------------------------------------------------

    def join(self, node: fx.Node, runs: Sequence[dict[str, Meeting]]) -> None:
        """Let a node that stays do without the branches that it reads."""
        for number in operands(node, self.kinds, ["number"]):
            replace_by_number(node, number, self.layout.value(number.name))
        sources = operands(node, self.kinds, ["constant"])
        constants = {n: self.value(runs, node, n) for n in sources}
        if self.operator(node) in _JOINS:
            self.join_parts(node, constants)
        elif constants:
            self.join_pointwise(node, constants, [run[node.name] for run in runs])

    def value(
        self, runs: Sequence[dict[str, Meeting]], node: fx.Node, source: fx.Node
    ) -> torch.Tensor:
        """The constant that a node reads; of known ones those that did nothing have no buffer."""
        if self.known is None:
            return constant_of(runs, node, source, self.layout)
        like = runs[0][node.name].constants[source.name]
        (traced,) = self.layout.tensors(source.name)
        shape = [self.layout.size(a) if is_channels(a, self.layout) else 1 for a in traced.axes]
        found = self.known.get(self.free_name(source))
        if found is None and (neutral := _NEUTRAL.get(self.operator(node))) is not None:
            found = torch.full(shape, neutral)
        if found is None or list(found.shape) != shape:
            raise refusal(node, f"the constant {source.name} is not known")
        return found.to(device=like.device, dtype=runs[0][node.name].dtypes[source.name])

    def join_parts(self, node: fx.Node, constants: dict[fx.Node, torch.Tensor]) -> None:
        """Leave out the parts of a concatenation that have gone, and expand constant ones."""
        parts = _parts(node)
        whole = next(n for n in parts if self.kinds[n.name] in ("live", "state"))
        along = None if self.operator(node) == "stack" else self.along(node)
        new = [
            self.expanded(node, part, constants[part], whole, along) if part in constants else part
            for part in parts
            if self.kinds[part.name] != "gone"
        ]
        if node.args:
            node.update_arg(0, new)
        else:
            node.update_kwarg("tensors", new)

    def along(self, node: fx.Node) -> int:
        """The dim that a concatenation joins along."""
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if not isinstance(given, int):
            raise refusal(node, "the dim that it joins along is computed")
        return given % len(self.layout.tensors(node.name)[0].axes)

    def expanded(
        self,
        node: fx.Node,
        source: fx.Node,
        value: torch.Tensor,
        whole: fx.Node,
        along: int | None,
    ) -> fx.Node:
        """A constant part of a concatenation or a stack, with the sizes of a part that is none.

        Along the dim that it is joined along it has its own size; there is none in a stack.
        """
        (traced,) = self.layout.tensors(source.name)
        is_place = [not is_channels(axis, self.layout) for axis in traced.axes]
        if along is not None and is_place[along]:
            raise refusal(node, f"how much of {source.name} it takes may depend on the inputs")
        constant = self.constant(node, source, value)
        sizes: list[Any] = [-1] * len(is_place)
        with self.graph.inserting_before(node):
            for dim in (d for d, place in enumerate(is_place) if place):
                sizes[dim] = self.graph.call_method("size", (whole, dim))
                sizes[dim].meta[PREDICTED] = traced.axes[dim].size
            made = self.graph.call_method("expand", (constant, *sizes))
        made.meta[PREDICTED] = traced
        return made

    def join_pointwise(
        self, node: fx.Node, constants: dict[fx.Node, torch.Tensor], met: Sequence[Meeting]
    ) -> None:
        """Let an operator take constants in the place of branches; leave it out if it can be."""
        for meeting in met:
            shapes = [
                self.condensed(n) if n in constants else meeting.shapes[n.name]
                for n in node.all_input_nodes
                if n.name in meeting.shapes
            ]
            if torch.broadcast_shapes(*shapes) != meeting.shapes[node.name]:
                raise refusal(node, "the shape of its value comes from what has gone")
        self.out_of_place(node, constants)
        if (other := self.unchanged(node, constants, met)) is not None:
            self.needless[node] = other
            return
        for source, value in constants.items():
            node.replace_input_with(source, self.constant(node, source, value))

    def condensed(self, source: fx.Node) -> tuple[int, ...]:
        """The shape of a constant with one position along every dim but channels."""
        (traced,) = self.layout.tensors(source.name)
        return tuple(a.size if is_channels(a, self.layout) else 1 for a in traced.axes)

    def constant(self, node: fx.Node, source: fx.Node, value: torch.Tensor) -> fx.Node:
        """A node in front of another that reads a constant, which is kept as a buffer."""
        name = self.buffer(source, value)
        with self.graph.inserting_before(node):
            made = self.graph.get_attr(name)
        made.meta = {k: v for k, v in source.meta.items() if k == "stack_trace"}
        (traced,) = self.layout.tensors(source.name)
        axes = tuple(a if is_channels(a, self.layout) else Axis(1) for a in traced.axes)
        made.meta[PREDICTED] = TracedTensor(tuple(a.size for a in axes), axes, dtype=value.dtype)
        return made

    def buffer(self, source: fx.Node, value: torch.Tensor) -> str:
        """The name of a buffer that holds a constant."""
        name = self.free_name(source, value)
        if name not in self.added:
            self.graph_module.register_buffer(name, value.detach().contiguous().clone())
            self.added.add(name)
        return name

    def free_name(self, source: fx.Node, value: torch.Tensor | None = None) -> str:
        """The name of a buffer for a constant: a new one, or that of the same constant."""
        name = f"{source.name}_constant"
        while hasattr(self.graph_module, name):
            held = getattr(self.graph_module, name)
            if name in self.added and (value is None or torch.equal(held, value)):
                break
            name += "_"
        return name

    def out_of_place(self, node: fx.Node, constants: Iterable[fx.Node]) -> None:
        """Let an operator that would write into a constant return a new tensor."""
        if not any(writes(node, source, self.graph_module) for source in constants):
            return
        target: Any = node.target
        if target in _OUT_OF_PLACE:
            node.target = _OUT_OF_PLACE[target]
        elif node.op == "call_method" and str(target).endswith("_"):
            node.target = str(target).rstrip("_")
        elif isinstance(target, torch._ops.OpOverload):
            name = target._schema.name.split("::")[1].rstrip("_")
            node.target = getattr(getattr(torch.ops.aten, name), target._overloadname)
        else:
            raise refusal(node, "it would overwrite a constant")

    def unchanged(
        self, node: fx.Node, constants: dict[fx.Node, torch.Tensor], met: Sequence[Meeting]
    ) -> fx.Node | None:
        """The operand that an operator returns as it is, because the other one does nothing."""
        name = self.operator(node)
        if name not in _NEUTRAL or len(node.args) != 2 or set(node.kwargs) - {"alpha"}:
            return None
        (source, value), *more = constants.items()
        first, second = node.args
        other = first if source is second else second
        is_second = source is second or name in _EITHER_SIDE
        if more or not isinstance(other, fx.Node) or not is_second:
            return None
        same = all(
            meeting.shapes.get(other.name) == meeting.shapes[node.name]
            and meeting.dtypes.get(other.name) == meeting.dtypes[node.name]
            for meeting in met
        )
        return other if same and bool((value == _NEUTRAL[name]).all()) else None

    def leave_out(self, node: fx.Node) -> None:
        """Take an operator out that returns one of its operands; where that may show, copy it."""
        other = self.needless[node]
        in_place = writes(node, other, self.graph_module)
        if in_place or not is_written_later(node, other, self.graph_module):
            for later, operand in self.needless.items():
                if operand is node:
                    self.needless[later] = other
            names = (node.name, *node.meta.get(STANDS_FOR, ()))
            other.meta[STANDS_FOR] = (*other.meta.get(STANDS_FOR, ()), *names)
            node.replace_all_uses_with(other)
            self.graph.erase_node(node)
            return
        node.op, node.target, node.args, node.kwargs = "call_function", torch.clone, (other,), {}

    # -- what is left over ---------------------------------------------------------------------

    def erase(self) -> None:
        """Erase nodes that nothing reads any more, and the weights that only these read."""
        targets, lost = set[str](), set[fx.Node]()
        for node in reversed(list(self.graph.nodes)):
            kind = self.kinds.get(node.name, "live")
            if node.users or not (kind in ("gone", "constant", "number") or node in lost):
                continue
            if kind == "live" and not is_pure(node, self.graph_module):
                continue
            if node.op in ("call_module", "get_attr"):
                targets.add(str(node.target))
            lost.update(node.all_input_nodes)
            self.graph.erase_node(node)
        for node in self.graph.nodes:
            if self.kinds.get(node.name, "live") in ("gone", "constant", "number"):
                raise refusal(next(iter(node.users)), f"it reads {node.name}, which has to go")
        erase_pieces(self.graph_module, self.layout)
        erase_state(self.graph_module, targets, self.emptied)
        now = _numel(named_tensors(self.graph_module))
        if (more := now - _numel(self.layout.deps.state)) > 0:
            raise RewriteError(
                f"the constants of branches would have {more:,} numbers more than what goes with"
                " the branches",
                hint=HINT,
            )


def _parts(node: fx.Node) -> Any:
    """What a concatenation joins."""
    return node.args[0] if node.args else node.kwargs.get("tensors")


def _numel(state: Mapping[str, torch.Tensor]) -> int:
    """How many numbers there are in tensors, tied ones once."""
    return sum(tensor.numel() for tensor in {id(t): t for t in state.values()}.values())
