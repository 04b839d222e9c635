"""Lowering: one node of a model as the graph of ATen operators that it consists of."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from fxprune.dynamic_sizes import Record, Spot, fitted, formulas, write
from fxprune.errors import FxPruneError, RewriteError, first_line
from fxprune.interpretation import decomposed_attention, replay
from fxprune.labels import Axis
from fxprune.lowered_repeats import Channels, UnknownChannelError, translated
from fxprune.module_trees import clone_tree, to_meta
from fxprune.recorded_graphs import add_numbers, assert_decisions, make_alike
from fxprune.rules import axes_of, locate, put_axes, put_value
from fxprune.sampling import Sample, Samples
from fxprune.signatures import Signature, signature
from fxprune.size_decisions import (
    SizeDecisions,
    SizeOf,
    Source,
    Term,
    is_smooth,
    sizes_in,
    with_numbers,
    without_origin,
)
from fxprune.traces import Trace, TracedTensor
from fxprune.values import plain

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.labels import LabelAlgebra

_NUMBERS = (bool, int, float, str)


@dataclass(frozen=True)
class Operand:
    """A tensor that a node takes: the node that made it, and the keys that lead to it there."""

    node: str
    path: tuple[Any, ...]
    traced: TracedTensor


@dataclass(frozen=True)
class Lowered:
    """A node's computation.

    Attributes:
        graph: the operators. The placeholders are the operands, then the state.
        operands: where the operands come from.
        state: full names of the parameters and buffers.
        constants: tensors that the computation made of nothing, by the name of their `get_attr`.
        values: what the analysis says of every node of the graph, by name.
        renormalized: the axes that nodes look across in another way than summing, by name.
    """

    graph: fx.Graph
    operands: tuple[Operand, ...]
    state: tuple[str, ...]
    constants: dict[str, torch.Tensor]
    values: dict[str, Any]
    renormalized: dict[str, list[Axis]]


@dataclass(frozen=True)
class Lowering:
    """Lowers nodes of an analysed model; nothing of the analysis is changed."""

    deps: DependencyGraph

    @cached_property
    def samples(self) -> Samples:
        """The model's values at the example sizes and at others."""
        return Samples(self.deps)

    @cached_property
    def nodes(self) -> dict[str, fx.Node]:
        """The nodes of the original graph by name."""
        return {node.name: node for node in self.deps.graph_module.graph.nodes}

    def lower(self, name: str) -> Lowered:
        """The computation of a node of the original graph.

        Raises:
            RewriteError: it cannot be recorded, is random, or is a single operator already.
        """
        node = self.nodes[name]
        with _refusals(node):
            return self._repeated(node) or self._lower(node)

    def operators(self, name: str) -> fx.Graph:
        """The operators of a node at the example sizes, which is less work than to lower it.

        Raises:
            RewriteError: it cannot be recorded.
        """
        node = self.nodes[name]
        with _refusals(node):
            record = self._record(node, self._operands(node), self._state(node), self.samples.base)
        return record.graph

    # -- repeated blocks ----------------------------------------------------------------------

    @cached_property
    def _known(self) -> dict[Hashable, tuple[Channels, Lowered]]:
        """What was lowered, by the computation and the pattern of its channels."""
        return {}

    def _repeated(self, node: fx.Node) -> Lowered | None:
        """What a node is lowered to, if another one was that computes the same."""
        if not self._known:
            return None
        key, channels = self._computation(node)
        before, lowered = self._known.get((key, channels.pattern), (None, None))
        if key is None or before is None or lowered is None:
            return None
        axis = before.in_terms_of(channels)
        return replace(
            lowered,
            operands=self._operands(node),
            state=tuple(self._state(node)),
            values=translated(lowered.values, axis),
            renormalized={n: list(map(axis, axes)) for n, axes in lowered.renormalized.items()},
        )

    def _remember(self, node: fx.Node, lowered: Lowered) -> None:
        """Keep what a node was lowered to, if nothing but its own channels are in it."""
        key, channels = self._computation(node)
        if key is None:
            return
        try:
            axis = channels.in_terms_of(channels)
            translated(lowered.values, axis)
            for axes in lowered.renormalized.values():
                list(map(axis, axes))
        except UnknownChannelError:
            return
        self._known[key, channels.pattern] = channels, lowered

    def _computation(self, node: fx.Node) -> tuple[Hashable | None, Channels]:
        """All that a node computes at every size, if that is known; and its channels."""
        keys = tuple(self._key(node, sample) for sample in self.samples.seen())
        known = self.deps.trace
        state = [
            TracedTensor(tuple(tensor.shape), known.axes[name], _integers(tensor))
            for name, tensor in self._state(node).items()
        ]
        returned = pytree.tree_leaves(known.values[node.name])
        tensors = [*(operand.traced for operand in self._operands(node)), *state, *returned]
        traced = [each for each in tensors if isinstance(each, TracedTensor)]
        return None if None in keys else keys, Channels.of(traced, known.labels)

    def _lower(self, node: fx.Node) -> Lowered:
        operands, state = self._operands(node), self._state(node)
        record = self._record(node, operands, state, self.samples.base).copy()
        calls = [inner for inner in record.graph.nodes if inner.op == "call_function"]
        if len(calls) == 1 and calls[0].target == node.target:
            raise _refusal(node, "it is a single operator")
        _refuse_chance(node, calls)
        values, renormalized = self._values(node, record, operands, state)
        found = self._dynamic(node, record, operands, state)
        asserted = self._assertions(node, record, values, found)
        write(record, found.spots)
        assert_decisions(record.graph, asserted, node.name)
        record.graph.eliminate_dead_code()
        add_numbers(record.graph, values)
        constants = record.constants
        lowered = Lowered(record.graph, operands, tuple(state), constants, values, renormalized)
        if not asserted:  # an assertion names its node
            self._remember(node, lowered)
        return lowered

    # -- what a node reads ------------------------------------------------------------------

    def _operands(self, node: fx.Node) -> tuple[Operand, ...]:
        found = []
        for source in node.all_input_nodes:
            leaves, _ = pytree.tree_flatten_with_path(self.deps.trace.values[source.name])
            for path, leaf in leaves:
                if isinstance(leaf, TracedTensor):
                    keys = tuple(getattr(key, "idx", getattr(key, "key", None)) for key in path)
                    found.append(Operand(source.name, keys, leaf))
        return tuple(found)

    def _state(self, node: fx.Node) -> dict[str, torch.Tensor]:
        """Parameters and buffers of the node's module by full name; a tied one once."""
        if node.op != "call_module":
            return {}
        module = self.deps.graph_module.get_submodule(str(node.target))
        pairs = [*module.named_parameters(), *module.named_buffers()]
        return {f"{node.target}.{name}": tensor for name, tensor in pairs}

    @cached_property
    def device(self) -> torch.device:
        """The device of the model."""
        return next((t.device for t in self.deps.state.values()), torch.device("cpu"))

    # -- recording --------------------------------------------------------------------------

    @cached_property
    def _records(self) -> dict[Hashable, Record]:
        """Records by what they depend on, for nodes that compute the same."""
        return {}

    @cached_property
    def _signatures(self) -> dict[Any, Signature | None]:
        """What modules compute with, by their paths."""
        return {}

    def _record(
        self,
        node: fx.Node,
        operands: Sequence[Operand],
        state: dict[str, torch.Tensor],
        sample: Sample,
    ) -> Record:
        """The record of a node, or that of another node that computes the same."""
        key = self._key(node, sample)
        if key is None:
            return self._recorded(node, operands, state, sample)
        if key not in self._records:
            self._records[key] = self._recorded(node, operands, state, sample)
        return self._records[key]

    def _key(self, node: fx.Node, sample: Sample) -> Hashable | None:
        """All that a node's record depends on; None if that is not known."""
        inputs = node.all_input_nodes
        number = {source: f"%{k}" for k, source in enumerate(inputs)}
        arguments = fx.map_arg((node.args, node.kwargs), lambda n: number[n])
        module: Any = node.target
        if node.op == "call_module":
            if node.target not in self._signatures:
                called = self.deps.graph_module.get_submodule(str(node.target))
                self._signatures[node.target] = signature(called)
            module = self._signatures[node.target]
            if module is None:
                return None
        values = pytree.tree_map(_outside, [sample[source.name] for source in inputs])
        return node.op, module, repr(arguments), repr(values)

    def _recorded(
        self,
        node: fx.Node,
        operands: Sequence[Operand],
        state: dict[str, torch.Tensor],
        sample: Sample,
    ) -> Record:
        """Record a node's computation on tensors without data."""
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        given = [_at(sample, operand) for operand in operands]
        with fake:
            inputs = [
                torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=self.device)
                for t in [*given, *state.values()]
            ]
        run = self._function(node, sample, list(state))
        sizes = SizeDecisions()

        def noted(*tensors: torch.Tensor) -> Any:
            with sizes:
                result = run(*tensors)
            sizes.note_use(plain(result))
            return pytree.tree_map(without_origin, result)

        with decomposed_attention(), torch.no_grad():
            module = make_fx(noted, tracing_mode="fake", pre_dispatch=True)(*inputs)
        graph = module.graph
        sources = [*sizes.notes.decisions, *(source for source, _ in sizes.notes.used)]
        needed = {size.node for source in sources for size in sizes_in(source)}
        graph.eliminate_dead_code(lambda n: n.is_impure() or n.name in needed)
        make_alike(graph, len(operands))
        constants = {
            str(n.target): getattr(module, str(n.target)) for n in graph.nodes if n.op == "get_attr"
        }
        return Record(graph, constants, sizes.notes)

    def _function(self, node: fx.Node, sample: Sample, state: Sequence[str]) -> Any:
        """A node's computation as a function of its operand and state tensors."""
        sources = {source.name: sample[source.name] for source in node.all_input_nodes}
        module: Any = None
        if node.op == "call_module":
            original = self.deps.graph_module.get_submodule(str(node.target))
            module = clone_tree(original, lambda tensor: tensor)
        names = [name.removeprefix(f"{node.target}.") for name in state]

        def run(*tensors: torch.Tensor) -> Any:
            rest = iter(tensors)
            values = {name: _refilled(value, rest) for name, value in sources.items()}
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values[n.name])
            if module is not None:
                own = dict(zip(names, rest, strict=True))
                return torch.func.functional_call(module, own, args, kwargs)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return node.target(*args, **kwargs)  # type: ignore[operator]  # a function

        return run

    # -- labels -----------------------------------------------------------------------------

    def _values(
        self,
        node: fx.Node,
        record: Record,
        operands: Sequence[Operand],
        state: dict[str, torch.Tensor],
    ) -> tuple[dict[str, Any], dict[str, list[Axis]]]:
        """Interpret the record under the finished analysis, which must not learn anything new.

        Returns:
            The value of each node, and the axes that each looks across in another way than summing.
        """
        known = self.deps.trace
        labels = known.labels.copy()
        inputs = [_labelled(_at(self.samples.base, o), o.traced) for o in operands]
        for name, tensor in state.items():
            traced = TracedTensor(tuple(tensor.shape), known.axes[name], _integers(tensor))
            inputs.append(_labelled(to_meta(tensor), traced))
        root = nn.Module()
        for name, constant in record.constants.items():
            setattr(root, name, constant)
        trace = Trace(labels)
        out = replay(fx.GraphModule(root, record.graph), inputs, trace)
        finished = pytree.tree_leaves(known.values[node.name])
        for tensor, traced in zip(pytree.tree_leaves(out), finished, strict=True):
            if isinstance(traced, TracedTensor):
                for axis, other in zip(axes_of(tensor, labels), traced.axes, strict=True):
                    labels.unify(axis, other)
        if not labels.agrees_with(known.labels):
            raise _refusal(node, "its operators couple more channels than the analysis found")
        settled = _Settled(labels, len(known.labels))
        renormalized: dict[str, list[Axis]] = {}
        for entry in trace.renormalized:
            renormalized.setdefault(entry.place.node.name, []).append(settled.axis(entry.axis))
        values = {name: settled.value(value) for name, value in trace.values.items()}
        return values, renormalized

    # -- dynamic sizes ----------------------------------------------------------------------

    def _dynamic(
        self,
        node: fx.Node,
        base: Record,
        operands: Sequence[Operand],
        state: dict[str, torch.Tensor],
    ) -> _Dynamic:
        """Formulas for all numbers that depend on sizes; and the sizes that must stay as they are.

        All sizes are varied at once. If there are numbers without a formula then, sizes are taken
        one after another as long as formulas exist for all numbers.
        """
        axes = [axis for operand in operands for axis in operand.traced.axes]
        labels = self.deps.trace.labels
        usable = sorted(range(len(axes)), key=lambda k: len(labels.leaves(axes[k])) > 0)
        record = partial(self._record, node, operands, state)
        records, at_once = [base], None
        for sample in self.samples.joint:
            at_once = _added(records, usable, partial(record, sample))
            if at_once is None:
                break
        if at_once is not None:
            return _Dynamic(at_once, (), records, usable)
        records, spots, fixed = [base], dict[Spot, Any](), dict[int, None]()
        seen = {base.sizes[: len(axes)]}
        for sample in self.samples.apart:
            given = [_at(sample, operand) for operand in operands]
            sizes = tuple(size for tensor in given for size in tensor.shape)
            changed = [k for k, n in enumerate(sizes) if n != base.sizes[k]]
            if sizes in seen or fixed.keys() >= set(changed):
                continue
            seen.add(sizes)
            better = _added(records, usable, partial(record, sample))
            if better is None:
                fixed.update(dict.fromkeys(k for k in changed if not labels.leaves(axes[k])))
            else:
                spots = better
        return _Dynamic(spots, tuple(fixed), records, usable)

    def _assertions(
        self, node: fx.Node, record: Record, values: dict[str, Any], found: _Dynamic
    ) -> list[Source]:
        """What must hold for sizes, so that the record does.

        1. Sizes that no formula was found for are what they are.
        2. What the code decided by sizes turns out the same.
        3. Numbers that operators are given, and that are more than products of sizes, are what
           the formulas take them for.

        Sizes of channels count as the original's.
        """
        labels = self.deps.trace.labels
        places = [record.dims[k] for k in found.fixed]
        fixed = dict.fromkeys(SizeOf(source.name, dim) for source, dim in places)

        def number(size: SizeOf) -> int | None:
            value = values[size.node]
            if isinstance(value, TracedTensor) and labels.leaves(value.axes[size.dim]):
                if len({other.size(size) for other in found.records}) > 1:
                    raise _refusal(node, f"it decides by {size}, which channels are a part of")
                return record.size(size)
            return record.size(size) if size in fixed else None

        asserted: list[Source] = [Term(operator.eq, size, record.size(size)) for size in fixed]
        asserted += [with_numbers(decision, number) for decision in record.notes.decisions]
        for source, _ in record.notes.used:
            if is_smooth(source):
                continue
            known = with_numbers(source, number)
            everywhere: Any = [with_numbers(known, other.size) for other in found.records]
            taken_for = fitted(everywhere, found.records, found.usable)
            if isinstance(known, Term) and taken_for is not None and known != taken_for:
                asserted.append(Term(operator.eq, known, taken_for))
        return [term for term in dict.fromkeys(asserted) if isinstance(term, Term)]


@dataclass(frozen=True)
class _Dynamic:
    """What records at several sizes tell.

    Attributes:
        spots: formulas of the numbers that differ.
        fixed: the sizes that must stay as they are.
        records: the same computation at several sizes, the example's first.
        usable: the sizes of operands, those first that formulas should rather read.
    """

    spots: dict[Spot, Any]
    fixed: tuple[int, ...]
    records: Sequence[Record]
    usable: Sequence[int]


@contextmanager
def _refusals(node: fx.Node) -> Iterator[None]:
    """Whatever fails while a node is lowered is why it cannot be."""
    try:
        with torch.utils._python_dispatch._disable_current_modes():
            yield
    except RewriteError:
        raise
    except FxPruneError as error:
        raise _refusal(node, error.what) from error
    except Exception as error:
        raise _refusal(node, first_line(error)) from error


def _refusal(node: fx.Node, why: str) -> RewriteError:
    return RewriteError(
        f"node {node.name} cannot be lowered to its operators: {why}", where=locate(node)
    )


def _added(
    records: list[Record], usable: Sequence[int], record: Callable[[], Record]
) -> dict[Spot, Any] | None:
    """Formulas that hold for one more record too, which is added; None if there are none."""
    try:
        more = [*records, record()]
        found = formulas(more, usable)
    except Exception:  # noqa: BLE001  # it cannot be recorded at these sizes
        return None
    if found is not None:
        records[:] = more
    return found


def _at(sample: Sample, operand: Operand) -> Any:
    value = sample[operand.node]
    for key in operand.path:
        value = value[key]
    return value


def _outside(value: Any) -> Any:
    """A value without data, as text can tell it apart from others."""
    if not isinstance(value, torch.Tensor):
        return type(value), value if isinstance(value, _NUMBERS) else id(value)
    return tuple(value.shape), value.stride(), value.dtype


def _refilled(value: Any, tensors: Any) -> Any:
    """A value with its tensors replaced by the next ones of an iterator."""
    return pytree.tree_map(lambda v: next(tensors) if isinstance(v, torch.Tensor) else v, value)


def _integers(tensor: torch.Tensor) -> torch.Tensor | None:
    if tensor.is_floating_point() or tensor.is_complex() or tensor.device.type == "meta":
        return None
    return tensor.detach().cpu().clone()


def _labelled(tensor: torch.Tensor, traced: TracedTensor) -> torch.Tensor:
    """A new meta tensor that carries what the analysis knows."""
    result = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    put_axes(result, traced.axes)
    if traced.value is not None:
        put_value(result, traced.value)
    return result


@dataclass(frozen=True)
class _Settled:
    """Values under a copy of the labels, told in the ids of the analysis."""

    labels: LabelAlgebra
    count: int

    def value(self, value: Any) -> Any:
        """A value with new axes; ids that only the copy has are never removed."""
        return pytree.tree_map(
            lambda v: self._tensor(v) if isinstance(v, TracedTensor) else v, value
        )

    def _tensor(self, tensor: TracedTensor) -> TracedTensor:
        return TracedTensor(tensor.shape, tuple(map(self.axis, tensor.axes)), tensor.value)

    def axis(self, axis: Axis) -> Axis:
        """An axis in the ids of the analysis."""
        vectors = self.labels.roots(axis)
        known = tuple(np.where(vector < self.count, vector, 0) for vector in vectors)
        return Axis(axis.size, known, axis.reason)


def _refuse_chance(node: fx.Node, calls: Sequence[fx.Node]) -> None:
    """A graph has no train / eval flag: an active dropout would stay active for good."""
    for inner in calls:
        name = str(inner.target)
        active = "dropout" in name and "sdpa" not in name and True in inner.args
        rate = inner.args[4] if "scaled_dot_product" in name and len(inner.args) > 4 else 0
        if active or rate:
            raise _refusal(
                node, f"{inner.target} is random in train mode; call model.eval() before shrinking"
            )
