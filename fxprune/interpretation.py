"""Abstract interpretation: run a captured graph on meta tensors and carry labels along."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

from fxprune.decompositions import decomposed
from fxprune.errors import AnalysisError, FxPruneError, first_line
from fxprune.interpreter import Interpreter
from fxprune.labels import Axis, LabelAlgebra
from fxprune.meta_kernels import DispatchMode, run_on_meta
from fxprune.module_trees import clone_tree, named_state, to_meta
from fxprune.rules import (
    Call,
    Place,
    Rule,
    axes_of,
    locate,
    lookup,
    put_axes,
    put_value,
    value_of,
)
from fxprune.values import mapped, plain, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch._ops import OpOverload

aten = torch.ops.aten
_LARGEST_KNOWN = 1 << 20
_STATE_NAME = "_fxprune_state"


@dataclass(frozen=True)
class TracedTensor:
    """What the interpretation knows of a tensor: shape, axes, type, and the value if known."""

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    value: torch.Tensor | None = None
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Renormalization:
    """An axis that an op looks across in another way than summing over it."""

    place: Place
    axis: Axis


_GROUPED = frozenset({"aten::_grouped_mm", "transformers::grouped_mm_fallback"})
"""Products of several sizes in one, which `torch.utils.flop_counter` may lack."""


def grouped_flops(a: Sequence[int], b: Sequence[int], *rest: Any, **options: Any) -> int:
    """A grouped product: every row (or column) that is cut meets one matrix, as in one product."""
    return 2 * math.prod(a) * b[-1] if len(a) == 2 or len(b) == 3 else 2 * math.prod(a[1:]) * b[-1]


@dataclass(frozen=True)
class Work:
    """An operator that multiplies and adds, with TracedTensors for its tensors."""

    node: str
    op: OpOverload
    args: list[Any]
    kwargs: dict[str, Any]
    out: Any

    def macs(self, shape: Callable[[TracedTensor], Sequence[int]]) -> int:
        """Multiply-accumulate operations if every tensor has the shape that `shape` tells."""

        def shapes(value: Any) -> Any:
            """Sizes are torch.Size, which the formulas take as one value, not one by one."""
            if isinstance(value, TracedTensor):
                return torch.Size(shape(value))
            if isinstance(value, (list, tuple)):
                is_size = all(type(v) is int for v in value)
                return torch.Size(value) if is_size else [shapes(v) for v in value]
            return value

        args, out = shapes(self.args), shapes(self.out)
        kwargs = {name: shapes(value) for name, value in self.kwargs.items()}
        count = flop_registry.get(self.op._overloadpacket, grouped_flops)
        return int(count(*args, **kwargs, out_val=out)) // 2


@dataclass
class Trace:
    """The outcome of an interpretation.

    `values` holds, for each node, its value with every tensor replaced by a TracedTensor; `axes`
    the axes of every state tensor; `tied` the first name of every state tensor; `touched` the
    first names of those that some op read.
    """

    labels: LabelAlgebra
    axes: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    work: list[Work] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    unknown: dict[OpOverload, Place] = field(default_factory=dict)
    renormalized: list[Renormalization] = field(default_factory=list)


class LabelMode(DispatchMode):
    """Applies the rule of every ATen operator that comes by.

    Integer tensors keep their values as long as these follow from constants, so that indexing with
    a permutation buffer moves labels instead of pinning them.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.labels = trace.labels
        self.node: fx.Node | None = None
        self.read: list[Axis] = []
        self.moved: dict[str, Place] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operator and its rule."""
        call = Call(self.labels, func, args, kwargs or {})
        rule = lookup(func)
        if rule is None:
            with self:
                out = decomposed(call)
            if out is not NotImplemented:
                return out
        self.begin(call)
        if self.node is not None:
            self.labels.place = Place(self.node, func)
        call.out = self.execute(call, rule)
        self.account(call, rule)
        if rule is not None:
            rule.propagate(call)
        elif call.outputs() or torch.Tag.data_dependent_output in func.tags:
            self.pin_everything(call)
        self.end(call)
        return call.out

    def begin(self, call: Call) -> None:
        """An operator is about to run."""

    def end(self, call: Call) -> None:
        """An operator has run, and its outputs are labelled."""

    def execute(self, call: Call, rule: Rule | None) -> Any:
        """Run the operator on meta tensors, and for real where all its inputs are known."""
        if call.op is aten._local_scalar_dense.default:
            return self.number(call)
        args, kwargs = tuple(call.args), dict(call.kwargs)
        if not all(operand.is_meta for operand in call.tensors()):
            args, kwargs = pytree.tree_map(_on_meta, (args, kwargs))
        call.args, call.kwargs = args, kwargs
        known = self.known(call)
        if known is not None and torch.Tag.dynamic_output_shape in call.op.tags:
            return pytree.tree_map(_on_meta, known)
        out = run_on_meta(call.op, args, kwargs)
        if known is not None:
            for tensor, value in zip(tensors(out), tensors(known), strict=False):
                put_value(tensor, value)
        elif call.op._schema.is_mutable:
            forget_values(out)
        return out

    def is_known(self, call: Call) -> bool:
        """Whether the operands are integers that follow from constants."""
        operands = call.tensors()
        if any(t.is_floating_point() for t in operands) or (
            torch.Tag.nondeterministic_seeded in call.op.tags
        ):
            return False
        if not operands and call.has("dtype") and call.arg("dtype") not in (None, *_INTEGERS):
            return False
        return all(t.numel() <= _LARGEST_KNOWN and value_of(t) is not None for t in operands)

    def known(self, call: Call) -> Any:
        """The output's value if it consists of integers that follow from constants."""
        if not self.is_known(call):
            return None
        kwargs = dict(call.kwargs)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        real = pytree.tree_map(
            lambda v: value_of(v) if isinstance(v, torch.Tensor) else v, (call.args, kwargs)
        )
        with torch.utils._python_dispatch._disable_current_modes():
            out = call.op(*real[0], **real[1])
        if any(t.is_floating_point() or t.numel() > _LARGEST_KNOWN for t in tensors(out)):
            return None
        return out

    def number(self, call: Call) -> Any:
        """A Python number out of a tensor, if it is known."""
        value = value_of(call.tensors()[0])
        if value is None:
            raise AnalysisError(
                "a tensor's value is read as a Python number",
                where=locate(self.node) if self.node is not None else "",
                why="the model is interpreted without data, so the number is not known",
                hint="take sizes from .shape, or move the value out of forward",
            )
        return value.item()

    def account(self, call: Call, rule: Rule | None) -> None:
        """Note MACs, state tensors that are read, and axes that are looked across."""
        trace, node = self.trace, self.node.name if self.node is not None else ""
        if call.op._overloadpacket in flop_registry or call.op._schema.name in _GROUPED:
            args, out = snapshot(list(call.args), self.labels), snapshot(call.out, self.labels)
            kwargs = {name: snapshot(v, self.labels) for name, v in call.kwargs.items()}
            trace.work.append(Work(node, call.op, args, kwargs, out))
        self.note_reads(call, rule)
        if rule is not None:
            for operand_name, dim in rule.normalizes(call):
                axis = call.axes(operand_name)[dim]
                if self.labels.leaves(axis):
                    trace.renormalized.append(Renormalization(self.labels.place, axis))

    def note_reads(self, call: Call, rule: Rule | None) -> None:
        """Note which positions of state tensors meet anything else, be it by way of slices.

        What is computed of state tensors alone stands for them, but for axes that are summed over.
        """
        operands = call.tensors()
        names = [getattr(operand, _STATE_NAME, None) for operand in operands]
        self.trace.touched.update(name for name in names if name is not None)
        is_state = None not in names and rule is not None
        for operand, name in zip(operands, names, strict=True):
            if name is not None and is_state:
                self.moved.setdefault(name, self.labels.place)
            elif name is not None:
                self.read += call.axes(operand)
        if is_state and names and rule is not None:
            across = [*rule.sums(call), *rule.normalizes(call)]
            self.read += [call.axes(name)[dim] for name, dim in across if call.axes(name)]
            for out in call.outputs():
                setattr(out, _STATE_NAME, names[0])

    def pin_unread(self) -> None:
        """Keep what a slice of a state tensor leaves out: inputs of other sizes can read it.

        `positions[: x.shape[1]]` reads as much of a table as the example inputs are long.
        """
        if not self.moved:
            return
        labels = self.labels
        is_read = np.zeros(len(labels), dtype=np.bool_)
        read = [vector for axis in self.read for vector in axis.vectors]
        for vector in labels.expand(read and [np.concatenate(read)]):
            is_read[vector] = True
        for name, place in self.moved.items():
            reason = place.because("not read with example inputs of this size")
            for vector in labels.expand([v for a in self.trace.axes[name] for v in a.vectors]):
                labels.pin(vector[~is_read[vector]], reason)

    def pin_everything(self, call: Call) -> None:
        """An operator that nobody wrote a rule for: nothing that it touches can be removed."""
        for operand in call.tensors():
            for axis in call.axes(operand):
                if self.labels.leaves(axis):
                    self.trace.unknown.setdefault(call.op, self.labels.place)
                    call.pin(
                        [axis],
                        f"operator {call.op} has no label rule",
                        f"register one with @fxprune.rule(torch.ops.{call.op})",
                    )
        for out in call.outputs():
            put_axes(out, [call.pinned(size, f"made by {call.op}") for size in out.shape])


_INTEGERS = (torch.int64, torch.int32, torch.bool, torch.int16, torch.int8, torch.uint8)


def forget_values(out: Any) -> None:
    """What an operator computed of data is unknown, even if it wrote into what was known."""
    for tensor in tensors(out):
        if not tensor.is_floating_point():
            put_value(tensor, None)


def _on_meta(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.device.type == "meta":
        return value
    with torch.utils._python_dispatch._disable_current_modes():
        shadow = torch.empty_like(value, device="meta")
        if not value.is_floating_point() and value.numel() <= _LARGEST_KNOWN:
            put_value(shadow, value.clone())
    return shadow


class _Interpreter(Interpreter):
    """Runs a graph node by node under a mode and takes down every value."""

    def __init__(self, module: fx.GraphModule, mode: LabelMode) -> None:
        super().__init__(module)
        self.extra_traceback = False  # our errors name the node themselves
        self.mode = mode

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call a function; a list of positions in `x[:, [2, 0, 1]]` becomes a known tensor."""
        if target is operator.getitem and isinstance(args[0], torch.Tensor):
            return args[0][pytree.tree_map(_known_index, args[1], is_leaf=_is_list)]
        return super().call_function(target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and note what came out."""
        self.mode.node = n
        self.mode.labels.place = Place(n)
        try:
            value = super().run_node(n)
        except FxPruneError:
            raise
        except Exception as error:
            raise AnalysisError(
                f"interpreting the model failed: {first_line(error)}",
                where=locate(n),
                why=type(error).__name__,
                hint="check that the model runs on inputs of these shapes",
            ) from error
        self.mode.trace.values[n.name] = snapshot(value, self.mode.labels)
        return value


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _known_index(value: Any) -> Any:
    if not _is_list(value):
        return value
    with torch.utils._python_dispatch._disable_current_modes():
        return _on_meta(torch.tensor(value))


def snapshot(value: Any, labels: LabelAlgebra) -> Any:
    """A value with every tensor replaced by what is known of it; containers become plain ones."""
    if isinstance(value, torch.Tensor):
        axes = tuple(axes_of(value, labels))
        return TracedTensor(tuple(value.shape), axes, value_of(value), value.dtype)
    if type(value) in (list, tuple):
        return type(value)(snapshot(v, labels) for v in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return pytree.tree_map(
        lambda v: snapshot(v, labels) if isinstance(v, torch.Tensor) else v, plain(value)
    )


def interpret(graph_module: fx.GraphModule, inputs: tuple[Any, ...]) -> Trace:
    """Interpret a graph once, without data, and find out which positions belong together.

    Args:
        graph_module: the captured model; it is not changed.
        inputs: one value for each placeholder; of tensors only shape and dtype matter (and the
            values of integers).

    Raises:
        AnalysisError: a node failed, or asked for a value that is not known without data.
    """
    trace = Trace(LabelAlgebra())
    shadow = clone_tree(graph_module, _shadow_state)
    label_state(trace, named_state(shadow))
    mode = LabelMode(trace)
    nodes = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    values = []
    for node, value in zip(nodes, inputs, strict=True):
        values.append(mapped(_on_meta_input, value))
        label_input(trace, node, values[-1])
    environment = dict(zip(nodes, values, strict=True))
    with decomposed_attention(), torch.no_grad(), mode:
        interpreter = _Interpreter(shadow, mode)
        out = interpreter.run(initial_env=environment, enable_io_processing=False)
    mode.pin_unread()
    output = next(node for node in reversed(graph_module.graph.nodes) if node.op == "output")
    pin_output(trace, output, out)
    return trace


def label_state(trace: Trace, state: Mapping[str, torch.Tensor]) -> None:
    """Give every axis of every parameter and floating-point buffer labels of its own."""
    labels = trace.labels
    for name, tensor in state.items():
        if not hasattr(tensor, _STATE_NAME):
            movable = tensor.is_floating_point() or tensor.is_complex()
            axes = [
                labels.fresh_axis(size) if movable else labels.pinned_axis(size, "integers")
                for size in tensor.shape
            ]
            put_axes(tensor, axes)
            setattr(tensor, _STATE_NAME, name)
        trace.axes[name] = tuple(axes_of(tensor, labels))
        trace.tied[name] = getattr(tensor, _STATE_NAME)


def label_input(trace: Trace, node: fx.Node, value: Any) -> None:
    """Pin the axes of an argument of the model, and note it."""
    reason = Place(node, None, f"input {node.name} of the model")
    for tensor in tensors(value):
        put_axes(tensor, [trace.labels.pinned_axis(size, reason) for size in tensor.shape])
    trace.values[node.name] = snapshot(value, trace.labels)


def pin_output(trace: Trace, node: fx.Node, out: Any) -> None:
    """Pin the axes of what the model returns."""
    for tensor in tensors(out):
        reason = trace.labels.place = Place(node, None, "output of the model")
        for axis in axes_of(tensor, trace.labels):
            trace.labels.pin_axis(axis, reason)


@contextmanager
def decomposed_attention() -> Iterator[None]:
    """Keep torch from fused attention and layers, whose kernels differ from device to device."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    mkldnn = torch._C._get_mkldnn_enabled()  # `torch.backends.mkldnn.flags` warns of other devices
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)
        torch.backends.mha.set_fastpath_enabled(fastpath)


def replay(graph_module: fx.GraphModule, inputs: Sequence[Any], trace: Trace) -> Any:
    """Interpret a graph on meta tensors that carry axes already; notes values in `trace`.

    Raises:
        AnalysisError: as `interpret`.
    """
    mode = LabelMode(trace)
    with decomposed_attention(), torch.no_grad(), mode:
        return _Interpreter(graph_module, mode).run(*inputs, enable_io_processing=False)


def _shadow_state(tensor: torch.Tensor) -> torch.Tensor:
    shadow = to_meta(tensor)
    known = not tensor.is_floating_point() and tensor.device.type != "meta"
    if known and tensor.numel() <= _LARGEST_KNOWN:
        put_value(shadow, tensor.detach().cpu().clone())
    return shadow


def _on_meta_input(value: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(value, device="meta", requires_grad=False)
