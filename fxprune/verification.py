"""Proof: the original and the shrunk graph side by side, node by node."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from fxprune.analysis import DependencyGraph
from fxprune.comparison import alike, difference, first_difference
from fxprune.errors import InputError, VerificationError
from fxprune.inputs import bind, materialize
from fxprune.interpretation import TracedTensor
from fxprune.module_trees import clone_tree, named_state
from fxprune.planning import Layout, Plan
from fxprune.precision import Precision
from fxprune.real_calls import RealCalls, as_captured, copies, with_own_buffers
from fxprune.reference import MaskedMode, QuietMode
from fxprune.rules import axes_of, locate, put_axes
from fxprune.stepping import RESULT, OriginalFailsError, ResultFailsError, Stepper
from fxprune.values import plain, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fxprune.labels import LabelAlgebra

_T = TypeVar("_T")
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.05}
_LARGEST_DOUBLE = 2 << 30
_DEFECT = (
    "if this model was shrunk from exactly this original (the same weights), it is a defect of"
    " fxprune or of a custom rule: please report it"
)


@dataclass(frozen=True)
class Verification:
    """How a shrunk model was checked, and how far off it was at worst.

    Attributes:
        nodes: how many values were compared (all input sets together).
        inputs: the input sets that were run.
        every_node: whether intermediate values were compared, or outputs only.
        absolute: the largest absolute difference.
        relative: the largest difference relative to the largest value of the tensor.
        where: the node with the largest relative difference.
        tolerance: the relative difference that is still rounding for `dtype`.
        dtype: the precision that both models were run in.
        seconds: wall-clock time.
    """

    nodes: int = 0
    inputs: tuple[str, ...] = ()
    every_node: bool = True
    absolute: float = 0.0
    relative: float = 0.0
    where: str = ""
    tolerance: float = 0.0
    dtype: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        scope = "values, every node" if self.every_node else "outputs"
        return (
            f"verified: {self.nodes} {scope}, inputs {', '.join(self.inputs)}; worst relative "
            f"error {self.relative:.1e} (absolute {self.absolute:.1e}) at {self.where or '-'}, "
            f"tolerance {self.tolerance:.0e} in {self.dtype}; {self.seconds:.2f} s"
        )


def verify(
    model: nn.Module | DependencyGraph,
    small: nn.Module,
    plan: Plan | str | os.PathLike[str],
    example_inputs: Any = None,
) -> Verification:
    """Check that a shrunk model computes what the original computes for the kept channels.

    Both are run on the example inputs and on all-negative ones, in float64 where that takes at
    most 2 GiB. Where a graph names a narrower type itself, it runs in float64 there, too: the same
    operators, but a cast to float32 becomes one to float64, in both models and in their calls. The
    reference is the original graph with removed positions zeroed at each operand
    that is summed over. Every node's kept positions are compared with the node of the same name,
    if `small` is what `shrink` returned; the outputs only, if it is any other module (one that was
    pickled and read again, say). Neither model is changed; both are run in eval mode.

    Args:
        model: the original, or the DependencyGraph that `analyze` made of it.
        small: the shrunk model.
        plan: what was removed: a Plan, or the path of one.
        example_inputs: a tensor, a tuple or a dict; by default random ones of the plan's shapes.

    Raises:
        VerificationError: names the first node that differs, its source line, and by how much.
        PlanError: the plan is not for this model.
    """
    if not isinstance(small, nn.Module):
        raise InputError(
            f"the shrunk model is a {type(small).__name__}, not a torch.nn.Module",
            hint="pass what fxprune.shrink returned",
        )
    plan = Plan.of(plan)
    deps = plan.analyze(model, materialize(plan.inputs, seed=None))
    if example_inputs is not None:
        example_inputs = bind(deps.graph_module, example_inputs)
    known = "fxprune" in getattr(small, "meta", {})
    return verify_layout(deps, plan.layout(deps), small, example_inputs, known_nodes=known)


def verify_layout(
    deps: DependencyGraph,
    layout: Layout,
    small: nn.Module,
    values: tuple[Any, ...] | None,
    *,
    known_nodes: bool,
) -> Verification:
    """As `verify`, for a finished analysis and layout.

    Args:
        deps: the analysis of the original.
        layout: what stays.
        small: the shrunk model.
        values: one for each placeholder, or None for random ones.
        known_nodes: whether nodes of the same name are the same. They are in what `shrink`
            returns, but not in a model that was pickled since: reading it traces its code again,
            which numbers the nodes anew.
    """
    start = time.perf_counter()
    if any(t.device.type == "meta" for t in deps.state.values()):
        raise InputError(
            "a model without data (on the meta device) cannot be verified",
            hint="load the weights, or pass verify=False",
        )
    values = materialize(deps.inputs, seed=0) if values is None else values
    size = sum(t.numel() for t in deps.state.values() if t.is_floating_point())
    own = Precision.of(deps.state.values(), tensors(values))
    precisions = [*own.widest(), own] if size * 8 <= _LARGEST_DOUBLE else [own]
    every_node = known_nodes and _has_same_nodes(small, deps.graph_module)

    def compared(precision: Precision) -> _Comparison:
        comparison = _Comparison(deps, layout, small, precision, every_node)
        comparison.run_on({"example": values, "all negative": pytree.tree_map(_negative, values)})
        return comparison

    def called(precision: Precision) -> None:
        same = precision == done.precision
        comparison = done if same else _Comparison(deps, layout, small, precision, every_node)
        comparison.check_calls(values)

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        done = _most_exact(compared, precisions, involves_calls=not every_node)
        _most_exact(called, precisions[precisions.index(done.precision) :], involves_calls=True)
    return replace(done.result, seconds=time.perf_counter() - start)


def _most_exact(
    check: Callable[[Precision], _T], precisions: Sequence[Precision], *, involves_calls: bool
) -> _T:
    """What a check returns in the first precision that the models run in.

    A difference between graphs counts at once. A call in float64 throughout may also differ because
    forward reads a type, or uses a constant that was computed in one; so it is made again with the
    types that it names, where a difference counts. What does not run goes on to the next precision,
    at last to the types of the model; graphs alone do so at once.
    """
    for precision in precisions[:-1]:
        if not (precision.throughout or involves_calls):
            continue
        try:
            return check(precision)
        except (OriginalFailsError, ResultFailsError):
            continue  # an operator takes no float64, or has another meaning in it
        except VerificationError:
            if not (precision.throughout and involves_calls):
                raise
    return check(precisions[-1])


def _negative(value: Any) -> Any:
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return -value.abs() if floating else value


class _Comparison:
    """Two interpreters in lockstep."""

    def __init__(
        self,
        deps: DependencyGraph,
        layout: Layout,
        small: nn.Module,
        precision: Precision,
        every_node: bool,
    ) -> None:
        self.precision = precision
        narrowest = precision.narrowest(_TOLERANCE)
        self.deps = deps
        self.layout = layout
        self.labels: LabelAlgebra = deps.trace.labels.copy()
        self._parameters: dict[int, torch.Tensor] = {}
        self.original = _eval_clone(deps.graph_module, self._cast_once)
        self.small = _eval_clone(small, precision.cast)
        self.calls = RealCalls(
            deps,
            as_captured(deps, self._cast_once),
            with_own_buffers(self.original),
            with_own_buffers(self.small),
            self._quiet,
        )
        self.every_node = every_node
        tolerance = _TOLERANCE.get(narrowest, 1e-3)
        self.result = Verification(
            every_node=self.every_node,
            tolerance=tolerance,
            dtype=str(narrowest).removeprefix("torch."),
        )
        for name, tensor in named_state(self.original).items():
            put_axes(tensor, list(deps.trace.axes[name]))

    def _cast_once(self, value: torch.Tensor) -> torch.Tensor:
        """A parameter that the graph shares with the model is cast once for both."""
        if not isinstance(value, nn.Parameter):
            return torch.as_tensor(self.precision.cast(value))
        if id(value) not in self._parameters:
            self._parameters[id(value)] = self.precision.cast(value)
        return self._parameters[id(value)]

    def _quiet(self) -> QuietMode:
        return QuietMode(self.precision.widening())

    def removed(self, axis: Any) -> Any:
        """The mask of removed positions of an axis."""
        return self.layout.removed_positions(axis, self.labels)

    def run_on(self, sets: Mapping[str, tuple[Any, ...]]) -> None:
        """Run both models on sets of inputs and compare."""
        for name, values in sets.items():
            self.run(pytree.tree_map(self.precision.cast, values))
            self.result = replace(self.result, inputs=(*self.result.inputs, name))

    def run(self, values: tuple[Any, ...]) -> None:
        """Run both models on one set of inputs and compare."""
        if not self.every_node:
            self._compare_outputs(values)
            return
        assert isinstance(self.small, fx.GraphModule)
        twin = Stepper(RESULT, self.small, copies(values), self._quiet())
        for node, value in self._reference(values):
            self._relabel(node, value)
            other = twin.advance_to(node.name)
            if other is not None and _has_value(node):
                self.compare(node, value, other[0])

    def check_calls(self, values: tuple[Any, ...]) -> None:
        """Compare graphs that were run node by node with real calls of the models."""
        given = pytree.tree_map(self.precision.cast, values)
        for name, stepped, called in self.calls.pairs(given):
            self._compare_call(stepped, called, name)

    def _compare_call(self, stepped: Any, called: Any, name: str) -> None:
        output = next(n for n in reversed(self.deps.graph_module.graph.nodes) if n.op == "output")
        nodes = self.result.nodes
        try:
            left, right = tensors(stepped), tensors(called)
            if len(left) != len(right):
                raise VerificationError(f"{len(left)} tensors instead of {len(right)}")
            for expected, got in zip(right, left, strict=True):
                self._compare_tensor(output, expected, got)
        except VerificationError as error:
            raise VerificationError(
                f"the graph of {name} does not compute what a call of it computes",
                where=locate(output),
                why=f"{error.what}; {error.why}" if error.why else error.what,
                hint="tracing missed what forward does besides operators on tensors (state that it"
                " keeps, random choices, code that depends on values): make that explicit",
            ) from error
        self.result = replace(self.result, nodes=nodes)  # these are no values of the graph

    def _reference(self, values: tuple[Any, ...]) -> Stepper:
        mode = MaskedMode(self.labels, self.removed, self.precision.widening())
        return Stepper("the original", self.original, copies(values), mode)

    def _compare_outputs(self, values: tuple[Any, ...]) -> None:
        out = self.calls.result(values)
        for node, value in self._reference(values):
            self._relabel(node, value)
            if node.op == "output":
                self.compare(node, value, out)

    def _relabel(self, node: fx.Node, value: Any) -> None:
        """Put the finished analysis' labels on a value, on every axis of the analysed size.

        While the graph runs, positions that are coupled only later (a `new_zeros` that is filled in
        place) are not known to be removed yet; the finished analysis knows.
        """
        known = pytree.tree_leaves(self.deps.trace.values.get(node.name))
        for tensor, traced in zip(pytree.tree_leaves(plain(value)), known, strict=False):
            if isinstance(traced, TracedTensor) and tensor.dim() == len(traced.axes):
                pairs = zip(axes_of(tensor, self.labels), traced.axes, strict=True)
                put_axes(tensor, [t if t.size == a.size else a for a, t in pairs])

    def compare(self, node: fx.Node, expected: Any, got: Any) -> None:
        """Compare the kept positions of all tensors of a node's value."""
        left, right = tensors(expected), tensors(got)
        if len(left) != len(right) or (node.op == "output" and not alike(expected, got)):
            raise VerificationError(
                f"node {node.name} yields {len(right)} tensors instead of {len(left)}"
                if len(left) != len(right)
                else "the output has another structure or other values beside its tensors",
                where=locate(node),
            )
        for reference, tensor in zip(left, right, strict=True):
            kept = reference
            for dim, axis in enumerate(axes_of(reference, self.labels)):
                gone = self.removed(axis)
                if gone.any():
                    index = torch.from_numpy(np.flatnonzero(~gone)).to(reference.device)
                    kept = kept.index_select(dim, index)
            self._compare_tensor(node, kept, tensor)

    def _compare_tensor(self, node: fx.Node, expected: torch.Tensor, got: torch.Tensor) -> None:
        where = locate(node)
        if expected.shape != got.shape:
            raise VerificationError(
                f"node {node.name} has shape {tuple(got.shape)} instead of {tuple(expected.shape)}",
                where=where,
                hint=_DEFECT,
            )
        if not expected.numel():
            return
        if expected.is_floating_point() and expected.element_size() == 1:
            expected, got = expected.float(), got.float()
        if not bool(torch.isfinite(expected).any() | (expected == got).all()):
            raise VerificationError(
                f"the original itself computes NaN or infinite values at node {node.name}",
                where=where,
                hint="check the weights and the example inputs",
            )
        absolute, relative = difference(expected, got)
        if expected.is_floating_point():  # rounding in a narrow dtype reaches all that follows
            tolerance = max(self.result.tolerance, _TOLERANCE.get(expected.dtype, 0.0))
            self.result = replace(self.result, tolerance=tolerance)
        self.result = replace(self.result, nodes=self.result.nodes + 1)
        if not relative <= self.result.tolerance:
            raise VerificationError(
                f"node {node.name} differs from the original by {relative:.2e} of its largest "
                f"value, more than {self.result.tolerance:.0e} ({self.result.dtype})",
                where=where,
                why=first_difference(expected, got),
                hint=_DEFECT,
            )
        if relative > self.result.relative or not self.result.where:
            self.result = replace(self.result, relative=relative, where=node.name)
        self.result = replace(self.result, absolute=max(absolute, self.result.absolute))


def _has_value(node: fx.Node) -> bool:
    """Whether a node computes something: not an input or a parameter."""
    return node.op not in ("placeholder", "get_attr")


def _has_same_nodes(small: nn.Module, original: fx.GraphModule) -> bool:
    """Whether a model has nodes named as the original's, in the same order."""
    if not isinstance(small, fx.GraphModule):
        return False
    known = {node.name for node in original.graph.nodes}
    theirs = [node.name for node in small.graph.nodes if node.name in known]
    ours = [node.name for node in original.graph.nodes if node.name in set(theirs)]
    return ours == theirs and "output" in known


def _eval_clone(module: Any, cast: Any) -> Any:
    clone = clone_tree(module, cast)
    for child in clone.modules():
        child.training = False
    return clone
