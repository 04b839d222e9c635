"""Proof by graphs: the original and the shrunk one side by side, node by node."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from fxprune.comparison import Claim, Comparison
from fxprune.differences import alike, difference, largest
from fxprune.errors import VerificationError
from fxprune.interference import PoisonMode
from fxprune.modes import mode_of
from fxprune.module_trees import named_state
from fxprune.passing_weights import PassingWeights
from fxprune.real_calls import MODEL, RealCalls, copies
from fxprune.reference import QuietMode, axis_pairs, put_state, relabel
from fxprune.rounding import CANCELLED, Key, Rounding
from fxprune.rules import axes_of, locate
from fxprune.stepping import RESULT, OriginalFailsError, Stepper
from fxprune.traces import traced_tensors
from fxprune.values import tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fxprune.errors import Location
    from fxprune.labels import Axis
    from fxprune.precision import Precision
    from fxprune.reference import MaskedMode

_POSITION_BY_POSITION = frozenset(
    {
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU),
        *(nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Identity),
    }
)
"""Modules in eval mode whose every value is made of one value of their input."""


class GraphComparison(Comparison):
    """Two interpreters in lockstep."""

    may_fail = True

    def __init__(
        self,
        claim: Claim,
        small: nn.Module,
        precision: Precision,
        known_parts: bool,
        *,
        poisoned: bool = False,
    ) -> None:
        deps = claim.deps
        same_nodes = known_parts and has_same_nodes(small, deps.graph_module)
        super().__init__(claim, precision, "every node" if same_nodes else "outputs")
        self._known_parts = same_nodes
        self._given: tuple[Any, ...] = ()
        self._example: tuple[Any, ...] = ()
        self.small = small
        self._is_poisoned = poisoned

    @cached_property
    def _original(self) -> PassingWeights:
        """The original's graph, with labels on its state, and NaN at removed positions of it."""
        trace, mode = self.deps.trace, self._mode()
        names: dict[int, list[str]] = {}

        def label(tensor: torch.Tensor) -> None:
            own = names.get(id(tensor), [])
            put_state(dict.fromkeys(own, tensor), trace)
            if own and isinstance(mode, PoisonMode):
                mode.poison(tensor)

        weights = PassingWeights(self.deps.graph_module, self.precision.cast, label)
        state = named_state(weights.module)
        for name, tensor in state.items():
            names.setdefault(id(tensor), []).append(name)
        for tensor in {id(tensor): tensor for tensor in state.values()}.values():
            if not weights.is_passing(tensor):
                label(tensor)
        return weights

    @cached_property
    def _small(self) -> PassingWeights:
        assert isinstance(self.small, fx.GraphModule)
        return PassingWeights(self.small, self.precision.cast)

    @cached_property
    def calls(self) -> RealCalls:
        """Calls of the models, from the state that their buffers start with."""
        return RealCalls(self.deps, self.small, self.precision, self._quiet)

    def _quiet(self) -> QuietMode:
        return QuietMode(self.precision.widening())

    def run(self, values: tuple[Any, ...]) -> None:
        """Run both models on one set of inputs and compare."""
        self._given = values
        self._example = self._example or values
        if self.result.compared == "outputs":
            self._compare_outputs(values)
            return
        small = self._small
        twin = Stepper(RESULT, small.module, copies(values), self._quiet(), small)
        for node, value in self._reference(values):
            other = twin.advance_to(node.name)
            if other is None or not _has_value(node):
                continue
            if self._passes_on(node):
                self.result = replace(self.result, left_out=self.result.left_out + 1)
            else:
                self.compare(node, value, other[0])

    def _passes_on(self, node: fx.Node) -> bool:
        """Whether a run that is to be quick compares a node's value through its only reader's.

        What differs here differs there; should it, all values are compared in another run.
        """
        readers = list(node.users)
        if not self._is_poisoned or len(readers) != 1 or readers[0].op != "call_module":
            return False
        return (
            type(self.deps.graph_module.get_submodule(str(readers[0].target)))
            in _POSITION_BY_POSITION
        )

    def check_calls(self, values: tuple[Any, ...]) -> None:
        """Compare graphs that were run node by node with real calls of the models."""
        for name, stepped, called in self.calls.pairs(self.cast(values)):
            self.rounding = Rounding(partial(self._stepped_again, values, name))
            self._compare_call(stepped, called, name)

    def check_types(self, values: tuple[Any, ...]) -> None:
        """Call the shrunk model in its own types; what it returns has the types of the original."""
        try:
            expected = tensors(self.calls.stepped(MODEL, self.cast(values)))
        except OriginalFailsError:
            return
        got = tensors(self.calls.result(self.cast(values)))
        types = [[tensor.dtype for tensor in outputs] for outputs in (expected, got)]
        if types[0] != types[1]:
            raise VerificationError(
                f"the shrunk model returns tensors of types {types[1]} instead of {types[0]}",
                hint=self.remedy,
            )

    def _stepped_again(
        self, values: Any, name: str, seed: int | None
    ) -> Iterator[tuple[Key, torch.Tensor]]:
        again = self.again(replace(self.precision, seed=seed))
        stepped = tensors(again.calls.stepped(name, again.cast(values)))
        return ((("node output", number), tensor) for number, tensor in enumerate(stepped))

    def _compare_call(self, stepped: Any, called: Any, name: str) -> None:
        output = next(n for n in reversed(self.deps.graph_module.graph.nodes) if n.op == "output")
        nodes = self.result.nodes
        try:
            left, right = tensors(stepped), tensors(called)
            if len(left) != len(right):
                raise VerificationError(f"{len(left)} tensors instead of {len(right)}")
            for number, (expected, got) in enumerate(zip(right, left, strict=True)):
                self.compare_tensor(_key(output, number), locate(output), expected, got)
        except VerificationError as error:
            if error.what.startswith("the original itself"):
                raise  # NaN in its weights, and no mistake of tracing
            raise VerificationError(
                f"the graph of {name} does not compute what a call of it computes",
                where=locate(output),
                why=f"{error.what}; {error.why}" if error.why else error.what,
                hint="tracing missed what forward does besides operators on tensors (state that it"
                " keeps, random choices, code that depends on values): make that explicit",
            ) from error
        self.result = replace(self.result, nodes=nodes)  # these are no values of the graph

    def again(self, precision: Precision) -> GraphComparison:
        """The same comparison from the start, in another precision."""
        return GraphComparison(self.claim, self.small, precision, self._known_parts)

    def poisoned(self) -> GraphComparison:
        """The same comparison from the start, with NaN at removed positions of the original."""
        own, parts = self.precision, self._known_parts
        return GraphComparison(self.claim, self.small, own, parts, poisoned=True)

    def place(self, key: Key) -> Location | str:
        """Where a node is in the user's code."""
        return locate(self._node(key))

    def _node(self, key: Key) -> fx.Node:
        nodes: list[fx.Node] = list(self.deps.graph_module.graph.nodes)
        return next(node for node in nodes if _key(node, 0)[0] == key[0])

    def _mode(self) -> MaskedMode:
        widening, meaning = self.precision.widening(), self.claim.meaning
        return mode_of(
            meaning,
            self.labels,
            self.removed,
            widening,
            poisoned=self._is_poisoned,
            constant_rows=self.claim.constant_rows,
        )

    def expected(self, values: tuple[Any, ...]) -> Iterator[tuple[Key, torch.Tensor]]:
        """The kept positions of every node of the original."""
        for node, value in self._reference(values):
            if _has_value(node):
                for number, tensor in enumerate(tensors(value)):
                    yield _key(node, number), self.kept(tensor, axes_of(tensor, self.labels))

    def _reference(self, values: tuple[Any, ...]) -> Iterator[tuple[fx.Node, Any]]:
        for node, value, known in self._steps(values):
            relabel(value, known, self.labels)
            yield node, value

    def _steps(self, values: tuple[Any, ...]) -> Iterator[tuple[fx.Node, Any, Any]]:
        for node, value in self._stepper(values):
            yield node, value, self.deps.trace.values.get(node.name)

    def _stepper(self, values: tuple[Any, ...]) -> Stepper:
        weights = self._original
        name = "the original"
        return Stepper(name, weights.module, copies(values), self._mode(), weights)

    def _compare_outputs(self, values: tuple[Any, ...]) -> None:
        for node, value in self._reference(values):
            if node.op == "output":
                expected = self.deps.graph_module.graph.process_outputs(value)
                self.compare(node, expected, self.calls.result(values))

    def couples_otherwise(self) -> bool:
        """Also whether an axis has other channels than the one of this size in the analysis.

        That of new memory does not know its channels yet, at any size.
        """
        if super().couples_otherwise():
            return True
        try:
            return not self._unlike(self._given) <= self._unlike(self._example)
        except OriginalFailsError:
            return True

    def _unlike(self, values: tuple[Any, ...]) -> set[tuple[str, int]]:
        """The axes of a run that lose other positions than those that take their places."""
        self.labels = self.deps.trace.labels.copy()
        found: dict[tuple[str, int], tuple[Axis, Axis]] = {}
        for node, value, known in self._steps(values):
            pairs = [p for _, pairs in axis_pairs(value, known, self.labels) for p in pairs]
            found |= {(node.name, number): pair for number, pair in enumerate(pairs)}
            relabel(value, known, self.labels)
        return {  # what is coupled is known at the end
            key
            for key, (own, known) in found.items()
            if own.size == known.size and (self.removed(own) != self.removed(known)).any()
        }

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
        for number, (reference, tensor) in enumerate(zip(left, right, strict=True)):
            kept = self.kept(reference, axes_of(reference, self.labels), self.scratch)
            try:
                self.compare_tensor(_key(node, number), locate(node), kept, tensor)
            except VerificationError as error:
                if not self._cancels(node, kept, tensor):
                    raise self._with_groups(error, node) from error
                self.result = replace(self.result, rounded=self.result.rounded + 1)

    def _cancels(self, node: fx.Node, expected: torch.Tensor, got: torch.Tensor) -> bool:
        """Whether a difference is rounding of what cancels: `x - x.mean()`, summed, is nothing.

        Such a value is no measure for itself. What it is made of is, in float64: value and
        difference are below `CANCELLED` times the largest number that the node takes.
        """
        if self.precision.dtype is not torch.float64 or not self._given:
            return False
        if expected.shape != got.shape or not expected.is_floating_point():
            return False
        absolute, size = difference(expected, got)[0], largest(expected)
        if not math.isfinite(absolute):
            return False
        operands = self._stepper(self._given).operands_of(node.name)
        taken = [t for t in operands if t.is_floating_point() and t.numel()]
        floor = CANCELLED * max((largest(t) for t in taken), default=0.0)
        return absolute <= floor and size <= floor

    def _with_groups(self, error: VerificationError, node: fx.Node) -> VerificationError:
        """The error, which also tells the groups that lose channels at the node."""
        told = self.claim.told_groups(self._axes_at(node))
        why = f"{error.why}; {told}" if error.why and told else error.why or told
        return type(error)(error.what, where=error.where, why=why, hint=error.hint)

    def groups_at(self, key: Key) -> str:
        """The groups that lose channels at a node."""
        return self.claim.told_groups(self._axes_at(self._node(key)))

    def _axes_at(self, node: fx.Node) -> list[Axis]:
        """The axes of a node's value, of its operands and of its state."""
        trace = self.deps.trace
        values = [trace.values.get(n.name) for n in (node, *node.all_input_nodes)]
        axes = [axis for value in values for t in traced_tensors(value) for axis in t.axes]
        if node.op == "call_module":
            prefix = f"{node.target}."
            axes += [a for name, own in trace.axes.items() if name.startswith(prefix) for a in own]
        return axes


def _key(node: fx.Node, number: int) -> Key:
    return f"node {node.name}", number


def _has_value(node: fx.Node) -> bool:
    """Whether a node computes something: not an input or a parameter."""
    return node.op not in ("placeholder", "get_attr")


def has_same_nodes(small: nn.Module, original: fx.GraphModule) -> bool:
    """Whether a model has nodes named as the original's, in the same order."""
    if not isinstance(small, fx.GraphModule):
        return False
    known = {node.name for node in original.graph.nodes}
    theirs = [node.name for node in small.graph.nodes if node.name in known]
    ours = [node.name for node in original.graph.nodes if node.name in set(theirs)]
    return ours == theirs and "output" in known
