"""What branches without channels still add: constants, found by running what reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from fxprune.errors import FxPruneError, RewriteError, first_line
from fxprune.input_sets import other_sizes
from fxprune.inputs import materialize
from fxprune.interpretation import decomposed_attention
from fxprune.interpreter import Interpreter
from fxprune.meta_kernels import MetaMode
from fxprune.module_trees import attribute_at, clone_tree, eval_clone, named_state, to_meta
from fxprune.passes.repair import writes
from fxprune.precision import Precision
from fxprune.reference import MaskedMode, put_state, relabel
from fxprune.rules import locate
from fxprune.traces import TracedTensor
from fxprune.values import mapped, memory, taken, tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fxprune.labels import Axis
    from fxprune.meaning import Norm
    from fxprune.planning import Layout
    from fxprune.planning.branches import Kind

HINT = "keep at least one channel of the group, or ignore it"
_SAME = 1e-10
"""How far a constant may differ from place to place, relative to its largest number."""
_EXACT = (torch.float32, torch.float64)
"""Types that a constant may be rounded to."""

Key = tuple[str, str]
"""The names of a node and of an operand that is constant."""


@dataclass(frozen=True)
class Meeting:
    """A node where constants meet what depends on the inputs, on inputs of one size.

    Attributes:
        constants: the operands that are constant, by name.
        shapes: the shapes of all operands, and of the node itself.
        dtypes: likewise, their types.
    """

    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)


class Branches:
    """A graph with the weights of the original, of which some nodes have gone.

    Args:
        graph_module: the graph, with the literals of the original's widths.
        layout: what stays, and the values of all nodes of the graph.
        kinds: the kinds of its nodes.
        meetings: the nodes that are wanted.
        norm: what statistics over partly pruned axes run over.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        layout: Layout,
        kinds: dict[str, Kind],
        meetings: Sequence[fx.Node],
        norm: Norm,
    ) -> None:
        self.graph_module = graph_module
        self.original = layout.original
        self.layout = layout
        self.kinds = kinds
        self.meetings = {node.name for node in meetings}
        self.norm = norm
        self.needed = _needed(graph_module, kinds)
        _refuse_written_state(graph_module, self.needed)

    def run(self) -> Iterator[dict[str, Meeting]]:
        """What meets at each node: on inputs as the example, and of other sizes.

        Raises:
            RewriteError: it cannot be found.
        """
        deps = self.layout.deps
        if any(tensor.device.type == "meta" for tensor in deps.state.values()):
            raise RewriteError(
                "what a branch without channels still adds is not known",
                why="the model has no data (it is on the meta device)",
                hint=f"load the weights first, or {HINT}",
            )
        values = materialize(deps.inputs, seed=None)
        candidates = Precision.candidates(deps.state.values(), tensors(list(values)))
        found = None
        for precision in candidates:
            try:
                found = self._run(precision, values)
                break
            except _RunError as error:
                failure = error
        if found is None:
            raise failure.error from failure.cause
        yield found
        for others in other_sizes(values):
            try:
                yield self._run(precision, others)
            except _RunError:
                continue  # the graph takes no inputs of this size

    def _run(self, precision: Precision, values: Sequence[Any]) -> dict[str, Meeting]:
        run = _Run(self, precision)
        inputs = iter(values)
        found = {}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for node in self.graph_module.graph.nodes:
                if node.op == "output":
                    continue
                run.shape(node, inputs)
                if node.name in self.meetings:
                    found[node.name] = run.meeting(node)
                if node.name in self.needed:
                    run.compute(node)
        return found


class _RunError(Exception):
    """A run that failed: the graph may not take inputs of this size or precision."""

    def __init__(self, error: FxPruneError, cause: Exception) -> None:
        super().__init__(str(error))
        self.error = error
        self.cause = cause


class _Run:
    """One run: all nodes without data, and what is constant on real weights."""

    def __init__(self, branches: Branches, precision: Precision) -> None:
        layout, original = branches.layout, branches.original
        self.branches = branches
        self.precision = precision
        self.labels = layout.deps.trace.labels.copy()
        self.device = next((t.device for t in layout.deps.state.values()), torch.device("cpu"))
        self.shapes = Interpreter(clone_tree(original, to_meta), garbage_collect_values=False)
        state = {n: t for n, t in named_state(original).items() if _reads(branches.needed, n)}
        wanted = {id(tensor) for tensor in state.values()}
        real = eval_clone(original, lambda t: precision.cast(t) if id(t) in wanted else t)
        put_state({name: attribute_at(real, name) for name in state}, layout.deps.trace)
        self.values = Interpreter(real, garbage_collect_values=False)
        self.mode = MaskedMode(
            self.labels,
            lambda axis: layout.removed_positions(axis, self.labels),
            precision.widening(),
            branches.norm,
        )
        self.overwritten: list[torch.Tensor] = []

    def shape(self, node: fx.Node, inputs: Iterator[Any]) -> None:
        """Run a node without data."""
        if node.op == "placeholder":
            self.shapes.env[node] = next(inputs)
            return
        with MetaMode():
            self.shapes.env[node] = self._call(self.shapes, node)

    def compute(self, node: fx.Node) -> None:
        """Run a node on constants and weights; what has gone is zero."""
        for source in node.all_input_nodes:
            self.values.env[source] = self.operand(node, source)
        with decomposed_attention(), self.mode:
            value = self._call(self.values, node)
        self.values.env[node] = value
        relabel(value, self.branches.layout.value(node.name), self.labels)

    def operand(self, node: fx.Node, source: fx.Node) -> Any:
        """What a node takes of another."""
        kind, value = self.branches.kinds[source.name], self.shapes.env[source]
        if kind == "gone":
            value = mapped(self._zeros, value)
            relabel(value, self.branches.layout.value(source.name), self.labels)
            return value
        if kind not in ("constant", "state"):
            return value
        value = self.values.env[source]
        if {memory(t) for t in tensors(value)} & {memory(t) for t in self.overwritten}:
            raise RewriteError(
                f"node {node.name} reads a constant that was overwritten by what depends on inputs",
                where=locate(node),
                hint=HINT,
            )
        return value

    def meeting(self, node: fx.Node) -> Meeting:
        """What meets at a node, as it is before the node runs."""
        met = Meeting()
        for source in (node, *node.all_input_nodes):
            value = self.shapes.env[source]
            if isinstance(value, torch.Tensor):
                met.shapes[source.name], met.dtypes[source.name] = value.shape, value.dtype
            if source is not node and self.branches.kinds[source.name] == "constant":
                constant = self.operand(node, source)
                if not isinstance(constant, torch.Tensor):
                    raise refusal(node, f"{source.name} is constant, and more than one tensor")
                met.constants[source.name] = constant.clone()
                if writes(node, source, self.branches.graph_module):
                    self.overwritten.append(constant)
        return met

    def _zeros(self, tensor: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(tensor.shape, dtype=tensor.dtype, device=self.device)
        return torch.as_tensor(self.precision.cast(zeros))

    def _call(self, interpreter: Interpreter, node: fx.Node) -> Any:
        try:
            if node.op == "get_attr":
                return self._attribute(interpreter, str(node.target))
            args, kwargs = interpreter.fetch_args_kwargs_from_env(node)
            return getattr(interpreter, node.op)(node.target, args, kwargs)
        except FxPruneError:
            raise
        except Exception as error:
            raise _RunError(
                RewriteError(
                    f"node {node.name} cannot be run to find what a branch without channels adds:"
                    f" {first_line(error)}",
                    where=locate(node),
                    hint=HINT,
                ),
                error,
            ) from error

    def _attribute(self, interpreter: Interpreter, target: str) -> Any:
        try:
            return attribute_at(interpreter.module, target)
        except AttributeError:  # a constant that lowering made
            value = attribute_at(self.branches.graph_module, target)
            return to_meta(value) if interpreter is self.shapes else self.precision.cast(value)


def refusal(node: fx.Node, why: str) -> RewriteError:
    """The error for a place where a branch cannot be taken out."""
    return RewriteError(
        f"node {node.name} cannot go on without a branch that has no channels left",
        where=locate(node),
        why=why,
        hint=HINT,
    )


def _needed(graph_module: fx.GraphModule, kinds: dict[str, Kind]) -> dict[str, fx.Node]:
    """The nodes to be computed: constants, and what these are made of but what has gone."""
    needed: dict[str, fx.Node] = {}
    for node in reversed(graph_module.graph.nodes):
        is_read = any(user.name in needed for user in node.users)
        if kinds[node.name] == "constant" or (kinds[node.name] == "state" and is_read):
            needed[node.name] = node
    return needed


def _refuse_written_state(graph_module: fx.GraphModule, needed: dict[str, fx.Node]) -> None:
    """State that forward changes is no constant."""
    for source in (node for node in needed.values() if node.op == "get_attr"):
        for user in source.users:
            if user.name not in needed and writes(user, source, graph_module):
                raise refusal(user, f"it changes {source.target}, which a constant is made of")


def _reads(needed: dict[str, fx.Node], name: str) -> bool:
    """Whether any of these nodes reads the state of that name."""
    targets = (str(n.target) for n in needed.values() if n.op in ("call_module", "get_attr"))
    return any(name == target or name.startswith(f"{target}.") for target in targets)


# -- from values on inputs of several sizes to one constant -----------------------------------


def constant_of(
    runs: Sequence[dict[str, Meeting]], node: fx.Node, source: fx.Node, layout: Layout
) -> torch.Tensor:
    """The one constant that an operand of a node is, with one position along all but channels.

    Raises:
        RewriteError: it differs from place to place, from input to input or from size to size, or
            would be rounded too much.
    """
    traced = layout.value(source.name)
    assert isinstance(traced, TracedTensor)
    first, *others = (
        _condensed(run[node.name].constants[source.name], traced, node, source, layout)
        for run in runs
    )
    if any(
        other.shape != first.shape or not torch.allclose(first, other, rtol=_SAME, atol=_SAME)
        for other in others
    ):
        raise refusal(node, f"the constant {source.name} is another one for inputs of another size")
    if not bool(first.isfinite().all()):
        raise refusal(node, f"the constant {source.name} is not finite")
    dtype = runs[0][node.name].dtypes[source.name]
    rounded = first.to(dtype)
    if dtype not in _EXACT and not torch.equal(rounded.to(first.dtype), first):
        raise refusal(node, f"the constant {source.name} would be rounded too much in {dtype}")
    return rounded


def _condensed(
    value: torch.Tensor, traced: TracedTensor, node: fx.Node, source: fx.Node, layout: Layout
) -> torch.Tensor:
    """The kept channels of a constant, and one position along every other dim."""
    if value.dim() != len(traced.axes):
        raise refusal(node, f"the constant {source.name} has another rank than in the analysis")
    for dim, axis in enumerate(traced.axes):
        if is_channels(axis, layout):
            if value.shape[dim] != axis.size:
                raise refusal(node, f"the constant {source.name} has another width at another size")
            kept = layout.kept(axis)
            if kept is not None:
                value = taken(value, dim, torch.from_numpy(kept).to(value.device))
    for dim, axis in enumerate(traced.axes):
        if is_channels(axis, layout):
            continue
        one = value.narrow(dim, 0, 1)
        if not _alike(value, one):
            raise refusal(
                node,
                f"the constant {source.name} differs from place to place along dim {dim}, as zero"
                " padding makes it",
            )
        value = one
    return value


def _alike(value: torch.Tensor, one: torch.Tensor) -> bool:
    """Whether all positions of a value are as one of them is, but for rounding."""
    if torch.equal(value, one.expand_as(value)):
        return True
    if not value.is_floating_point():
        return False
    return float((value - one).abs().max()) <= _SAME * float(value.abs().max())


def is_channels(axis: Axis, layout: Layout) -> bool:
    """Whether every position of an axis has a label of its own: no batch or place is in it."""
    vectors = layout.labels.roots(axis)
    if not vectors:
        return False
    return len(np.unique(np.stack(vectors), axis=1).T) == axis.size
