"""Shape literals: run the new graph on meta tensors in lockstep with the predicted shapes."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from fxprune.errors import FxPruneError, RewriteError, first_line
from fxprune.inputs import materialize
from fxprune.interpreter import Interpreter
from fxprune.lowering import Lowering
from fxprune.meta_kernels import MetaMode
from fxprune.module_trees import attribute_at, clone_tree, module_at, to_meta
from fxprune.passes.base import Pass
from fxprune.passes.drop_branches import ACROSS, STANDS_FOR
from fxprune.passes.erasing import PREDICTED
from fxprune.passes.exact_norms import compensated
from fxprune.passes.inlining import hold_state_only, inline
from fxprune.passes.numbers import measures_channels_only, read_axes, replace_by_number
from fxprune.passes.repair import Repair, operation
from fxprune.passes.repairs import ALWAYS, ON_MISMATCH
from fxprune.rules import locate
from fxprune.values import tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.labels import Axis
    from fxprune.lowering import Lowered
    from fxprune.meaning import Norm
    from fxprune.planning import Layout


_ROUND = "plan with round_to=8: its kernel takes rows of multiples of 16 bytes only"
_HINTS = {"grouped_mm": _ROUND, "_grouped_mm": _ROUND}


@dataclass(frozen=True)
class RepairShapes(Pass):
    """Mend every constant that was true of the old widths only.

    Nodes are visited in order and run on meta tensors:

    1. Operators that name positions (slice, select, roll, index, pad ...) get the new positions of
       what they named, wherever an axis that they name is pruned.
    2. A number read off a size, such as `x.shape[1]`, and so what is computed from it, stays what
       it was in the original, so that `dim ** -0.5` does not change.
    3. A node that fails or comes out in another shape than predicted gets its shape arguments set,
       dim by dim; dims that are right, such as the batch, stay as they are.
    4. A node that still fails or differs is lowered: its ATen operators take its place, and are
       repaired in turn. So is a user's function or a module of several parts that uses sizes.
    5. With `norm="exact"`, a node that looks across a pruned axis in another way than summing is
       rewritten for the original's width (`exact_norms.py`); it is lowered if that is not known.
    6. Every node's shape is compared with the prediction; a node that still differs is an error
       that names it.
    """

    norm: Norm = "kept"

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        """Walk over the graph."""
        walk = _Walk(graph_module, layout, self.norm)
        walk.run()
        if walk.modified:
            graph_module.recompile()
        return walk.modified


class _Walk:
    """One walk over a graph that is being repaired."""

    def __init__(self, graph_module: fx.GraphModule, layout: Layout, norm: Norm) -> None:
        self.norm = norm
        self.graph_module = graph_module
        made = {
            n.name: n.meta.pop(PREDICTED) for n in graph_module.graph.nodes if PREDICTED in n.meta
        }
        self.layout = layout.extended(made)
        self.modified = False
        self.shadow = clone_tree(graph_module, to_meta)
        self.interpreter = Interpreter(self.shadow, garbage_collect_values=False)
        self.lowering = Lowering(layout.deps)
        self.active = layout.deps.trace.active
        self.lowerable = {node.name for node in layout.deps.graph_module.graph.nodes}
        self.emptied: set[str] = set()
        self.instead = {n: node for node in graph_module.graph.nodes for n in _stands_for(node)}
        self.renormalized: dict[str, Sequence[Axis]] = {}
        if norm == "exact":
            for entry in layout.deps.trace.renormalized:
                axes = self.renormalized.get(entry.place.node.name, ())
                self.renormalized[entry.place.node.name] = (*axes, entry.axis)
        for node in graph_module.graph.nodes:
            if ACROSS in node.meta:
                self.renormalized.pop(node.name, None)
                across = node.meta.pop(ACROSS)
                if norm == "exact" and across:
                    self.renormalized[node.name] = across

    def run(self) -> None:
        """Visit every node."""
        inputs = iter(materialize(self.layout.deps.inputs, seed=None))
        graph = self.graph_module.graph
        with torch.no_grad(), MetaMode():
            for node in list(graph.nodes):
                if node.op == "placeholder":
                    self.interpreter.env[node] = next(inputs)
                elif node.op != "output":
                    self.visit(node)
        if self.modified:
            self.erase_unused_numbers()
        called = {str(n.target) for n in graph.nodes if n.op == "call_module"}
        for target in sorted(self.emptied - called):
            hold_state_only(self.graph_module, target)

    def visit(self, node: fx.Node) -> None:
        """Repair one node if need be, run it, and check its value."""
        repair = Repair(node, self.graph_module, self.layout)
        expected = self.layout.value(node.name)
        name = operation(node, self.graph_module)
        if name in ALWAYS and repair.names_pruned_axis():
            self.modified |= self._apply(ALWAYS[name], repair)
        value, error = self.evaluate(node)
        wrong = error is not None or self.mismatch(node, value) is not None
        if wrong and name in ON_MISMATCH:
            self.modified |= self._apply(ON_MISMATCH[name], repair)
            value, error = self.evaluate(node)
        if error is not None or self.mismatch(node, value) is not None:
            self.replace(node, self.lowered(node, value, error))
            return
        if (hidden := self.hidden_sizes(repair)) is not None:
            self.replace(node, hidden)
            return
        if self.looks_across_pruned_axis(node):
            self.keep_width(node, repair)
            return
        if isinstance(value, (bool, int, float)) and value != expected:
            self.keep_number(node, value, expected)
            value = expected
        self.interpreter.env[node] = value

    def looks_across_pruned_axis(self, node: fx.Node) -> bool:
        """Whether a node has to be told the original's width."""
        layout = self.layout
        axes = self.renormalized.get(node.name, ())
        return any(layout.removed_positions(axis, layout.labels).any() for axis in axes)

    def keep_width(self, node: fx.Node, repair: Repair) -> None:
        """Let a node look across the original's width."""
        module = str(node.target) if node.op == "call_module" else None
        if compensated(repair):
            self.modified = True
            if module is not None and node.op != "call_module":
                self.emptied.add(module)
            value, error = self.evaluate(node)
            if error is not None or self.mismatch(node, value) is not None:
                raise self.failure(node, value, error) from error
            self.interpreter.env[node] = value
            return
        refusal = RewriteError(
            f"node {node.name} looks across a pruned axis and has no form for the full width",
            where=locate(node),
            why=f"{operation(node, self.graph_module)!r} is not one of the operators that"
            ' norm="exact" knows',
            hint='pass norm="kept", or ignore the groups that reach it',
        )
        if node.name not in self.lowerable or isinstance(node.target, torch._ops.OpOverload):
            raise refusal
        try:
            lowered = self.lowering.lower(node.name)
        except RewriteError as error:
            raise refusal from error
        self.replace(node, lowered)

    def lowered(self, node: fx.Node, value: Any, error: Exception | None) -> Lowered:
        """The operators of a node that has no repair."""
        failure = self.failure(node, value, error)
        if node.name not in self.lowerable or isinstance(node.target, torch._ops.OpOverload):
            raise failure from error
        try:
            return self.lowering.lower(node.name)
        except RewriteError as refusal:
            raise RewriteError(
                failure.what,
                where=failure.where,
                why=f"{failure.why}; {refusal.what}",
                hint=failure.hint,
            ) from (error or refusal)

    def hidden_sizes(self, repair: Repair) -> Lowered | None:
        """The operators of a user's function or compound module that uses sizes inside.

        It can take the pruned operands, yield the right shape, and be wrong: 4 heads of 2 channels
        instead of 2 heads of 4. What cannot be lowered stays; verification tells.
        """
        node = repair.node
        if node.name not in self.active:
            return None  # it hands on what it is given, as stochastic depth does in eval mode
        if node.name not in self.lowerable or not self.is_compound(node):
            return None
        state = f"{node.target}." if node.op == "call_module" else None
        touched = repair.names_pruned_axis() or (
            state is not None and any(name.startswith(state) for name in self.layout.slices)
        )
        if not touched:
            return None
        try:
            uses_sizes = _uses_sizes(self.lowering.operators(node.name), self.graph_module)
            return self.lowering.lower(node.name) if uses_sizes else None
        except RewriteError:
            return None

    def is_compound(self, node: fx.Node) -> bool:
        """Whether a node calls a function that is not torch's, or a module of several parts."""
        if node.op == "call_module":
            module = module_at(self.graph_module, str(node.target))
            return any(module.children()) or not type(module).__module__.startswith("torch.nn")
        home = str(getattr(node.target, "__module__", "")).partition(".")[0]
        known = ("torch", "_operator", "operator", "builtins", "math")
        return node.op == "call_function" and home not in known

    def replace(self, node: fx.Node, lowered: Lowered) -> None:
        """Put the operators of a node in its place, and visit them."""
        self.lowerable.remove(node.name)
        if node.op == "call_module":
            self.emptied.add(str(node.target))
        made, values, renormalized = inline(node, lowered, self.graph_module, self.instead)
        self.modified = True
        self.layout = self.layout.extended(values)
        if self.norm == "exact":
            self.renormalized.pop(node.name, None)
            self.renormalized.update(renormalized)
        for inner in [*made, node]:
            self.visit(inner)

    def failure(self, node: fx.Node, value: Any, error: Exception | None) -> RewriteError:
        """What is wrong with a node's value."""
        repair = Repair(node, self.graph_module, self.layout)
        name = operation(node, self.graph_module)
        if error is not None:
            return RewriteError(
                f"node {node.name} does not take the pruned operands: {first_line(error)}",
                where=locate(node),
                why=f"its operands have shapes {repair.operand_shapes()}",
                hint=_HINTS.get(
                    name, f"ignore the groups that reach it, or report {name!r} as unsupported"
                ),
            )
        got, predicted = self.mismatch(node, value) or ([], [])
        return RewriteError(
            f"node {node.name} comes out as {got} instead of {predicted}",
            where=locate(node),
            why=f"{name!r} keeps a size of the original that has no repair",
            hint="ignore the groups that reach it, or report it as unsupported",
        )

    def _apply(self, function: Any, repair: Repair) -> bool:
        try:
            return bool(function(repair))
        except FxPruneError:
            raise
        except (IndexError, ValueError, TypeError, AttributeError) as error:
            raise RewriteError(
                f"node {repair.node.name} cannot be repaired: {first_line(error)}",
                where=locate(repair.node),
                why=f"unexpected arguments {repair.node.args} {repair.node.kwargs}",
                hint="ignore the groups that reach it, or report it as unsupported",
            ) from error

    def evaluate(self, node: fx.Node) -> tuple[Any, Exception | None]:
        """Run a node, and before it the nodes that a repair put in front of it."""
        for source in node.all_input_nodes:
            if source not in self.interpreter.env:
                value, error = self.evaluate(source)
                if error is not None:
                    return None, error
                self.interpreter.env[source] = value
        try:
            if node.op == "get_attr":
                return to_meta(attribute_at(self.graph_module, str(node.target))), None
            args, kwargs = self.interpreter.fetch_args_kwargs_from_env(node)
            return getattr(self.interpreter, node.op)(node.target, args, kwargs), None
        except Exception as error:  # noqa: BLE001  # whatever a user's function raises is reported
            return None, error

    def mismatch(self, node: fx.Node, value: Any) -> tuple[list[Any], list[Any]] | None:
        """The shapes of a node's value and the predicted ones, if they differ."""
        got = [tuple(t.shape) for t in tensors(value)]
        predicted = [self.layout.shape(tensor) for tensor in self.layout.tensors(node.name)]
        return (got, predicted) if got != predicted else None

    def keep_number(self, node: fx.Node, now: Any, before: Any) -> None:
        """Let the users of a number that was read off a size go on with the original's.

        1. The size of an axis that is nothing but channels becomes the original's constant.
        2. A size that has or may have other factors (the batch, a resolution) is scaled:
           n * before // now.
        3. Any other number is an error.
        """
        axes = read_axes(node, self.layout)
        if axes is None or not isinstance(now, int) or not now:
            raise RewriteError(
                f"node {node.name} computes {before} from the original's sizes, {now} from the new",
                where=locate(node),
                why="how it depends on the sizes is not known",
                hint="ignore the groups that reach it",
            )
        constant: Any = before
        users = list(node.users)
        if len(axes) > 1 or not measures_channels_only(node, axes[0], self.layout):
            graph = self.graph_module.graph
            with graph.inserting_after(node):
                times = graph.call_function(operator.mul, (node, before))
            with graph.inserting_after(times):
                constant = graph.call_function(operator.floordiv, (times, now))
            self.interpreter.env[times], self.interpreter.env[constant] = now * before, before
        for user in users:
            user.replace_input_with(node, constant) if isinstance(constant, fx.Node) else (
                replace_by_number(user, node, constant)
            )
        self.modified = True

    def erase_unused_numbers(self) -> None:
        """Erase size reads and arithmetic that nothing uses any more."""
        for node in reversed(list(self.graph_module.graph.nodes)):
            is_number = isinstance(self.interpreter.env.get(node), (int, float, tuple))
            if is_number and not node.users and node.op.startswith("call"):
                self.graph_module.graph.erase_node(node)


def _stands_for(node: fx.Node) -> tuple[str, ...]:
    """The names of nodes that were left out for this one; they are of no use any more then."""
    names: tuple[str, ...] = node.meta.pop(STANDS_FOR, ())
    return names


def _uses_sizes(graph: fx.Graph, graph_module: fx.GraphModule) -> bool:
    """Whether an operator names positions or sizes, or takes a number that may come from them."""
    calls = [node for node in graph.nodes if node.op == "call_function"]
    return any(
        (name := operation(node, graph_module)) in ALWAYS
        or name in ON_MISMATCH
        or any(isinstance(leaf, float) for leaf in pytree.tree_leaves((node.args, node.kwargs)))
        for node in calls
        if node.target is not operator.getitem
    )
