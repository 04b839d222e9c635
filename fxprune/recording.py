"""Capture by running: the model itself under a dispatch mode that notes every operator.

For models that no tracer takes. Their forward runs once, on the example inputs with their data, so
whatever it decides is decided as for these; what it decides by is noted.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from fxprune.errors import AnalysisError, Diagnostic, first_line
from fxprune.inputs import arguments_of_call
from fxprune.interpretation import decomposed_attention
from fxprune.label_mode import LabelMode, forget_values
from fxprune.labels import LabelAlgebra
from fxprune.module_trees import clone_tree, named_state, named_tensors, own_object, restore_root
from fxprune.rules import Call, Rule, axes_of, locate, value_of
from fxprune.traces import Trace, label_input, label_state, pin_output, snapshot
from fxprune.tracing import packed, unpack, user_frames
from fxprune.values import copied, tensors

if TYPE_CHECKING:
    pass

aten = torch.ops.aten
_NODE = "_fxprune_node"
_CONSTANT = "_constant"
_DECISION = "forward goes on by the values in a tensor"
_DECISION_HINT = "only what the example inputs led to is analyzed; verify on other inputs too"


@dataclass(frozen=True)
class Recording:
    """One run of a model.

    Attributes:
        graph_module: the operators that ran, as a graph that takes forward's arguments. It holds
            for inputs of the same shapes, and for the same decisions.
        trace: the labels of every node and state tensor.
        decisions: where forward may have decided by the value of a tensor: it was read as a Python
            number, or told how large another tensor is.
    """

    graph_module: fx.GraphModule
    trace: Trace
    decisions: tuple[Diagnostic, ...]


def record(model: nn.Module, arguments: Mapping[str, Any]) -> Recording:
    """Run a model once on real inputs and note every operator, with the labels of its outputs.

    Args:
        model: the model, which is not changed; the graph shares its parameters and buffers.
        arguments: values of forward's arguments by name.

    Raises:
        AnalysisError: there is no data to run the model on, or it fails.
    """
    twin = clone_tree(model, own_object)
    state = named_tensors(twin)
    given = [*state.values(), *tensors(dict(arguments))]
    if any(tensor.device.type == "meta" for tensor in given):
        raise AnalysisError(
            f"{type(model).__name__} has to be run on data to be recorded",
            why="the parameters or the example inputs are on the meta device",
            hint="pass example inputs with data",
        )
    trace = Trace(LabelAlgebra())
    label_state(trace, state)
    recorder = _Recorder(trace, state)
    values = {name: copied(value) for name, value in arguments.items()}
    for name, value in values.items():
        recorder.place_input(name, value)
    args, kwargs = arguments_of_call(twin, values)
    attention, no_chance = decomposed_attention(), torch.random.fork_rng(devices=[])
    with attention, no_chance, torch.no_grad(), recorder.modules_noted(twin), recorder:
        torch.manual_seed(0)
        try:
            out = twin(*args, **kwargs)
        except AnalysisError:
            raise
        except Exception as error:
            raise AnalysisError(
                f"{type(model).__name__} fails while it is recorded: {first_line(error)}",
                where=locate(recorder.node) if recorder.node is not None else "",
                why=type(error).__name__,
                hint="check that the model runs on these inputs",
            ) from error
    return recorder.finish(model, out)


class _Recorder(LabelMode):
    """Runs operators on real data, and notes each as a node of a graph."""

    def __init__(self, trace: Trace, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__(trace)
        self.graph = fx.Graph()
        self.decisions: list[Diagnostic] = []
        self.constants: dict[str, torch.Tensor] = {}
        self.names = {id(tensor): trace.tied[name] for name, tensor in state.items()}
        self.state = state  # keeps the ids from being given to others
        self.path: list[tuple[str, type]] = []

    # -- the parts of a graph ---------------------------------------------------------------

    def place_input(self, name: str, value: Any) -> None:
        """Add an argument of forward; its sizes are asserted, for they are all over the graph."""
        node = self.graph.placeholder(name)
        label_input(self.trace, node, value)
        unpack(self.graph, node, value, self._place)
        env = {node: value}
        for added in list(self.graph.nodes):
            if added.op == "call_function" and added.name not in self.trace.values:
                args = fx.map_arg(added.args, lambda n: env[n])
                env[added] = added.target(*args)
                self.trace.values[added.name] = snapshot(env[added], self.labels)

    def _place(self, tensor: torch.Tensor, node: fx.Node) -> None:
        setattr(tensor, _NODE, node)
        forget_values(tensor)
        shape = self.graph.call_function(getattr, (node, "shape"))
        equal = self.graph.call_function(operator.eq, (shape, tuple(tensor.shape)))
        text = f"the graph was recorded for shape {tuple(tensor.shape)} of {node.name}"
        self.graph.call_function(torch._assert, (equal, text))

    def node_of(self, value: Any) -> Any:
        """The node that made a tensor; parameters, buffers and constants are read."""
        if not isinstance(value, torch.Tensor):
            return value
        node = getattr(value, _NODE, None)
        if node is None or node.graph is not self.graph:
            name = self.names.get(id(value))
            if name is None:
                name = f"{_CONSTANT}{len(self.constants)}"
                self.constants[name] = value
            node = self.graph.get_attr(name)
            self._note(node, value)
        return node

    def _note(self, node: fx.Node, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            setattr(value, _NODE, node)
        self.trace.values[node.name] = snapshot(value, self.labels)

    # -- an operator ------------------------------------------------------------------------

    def begin(self, call: Call) -> None:
        """Add the node of an operator."""
        args = fx.node.map_aggregate(tuple(call.args), self.node_of)
        kwargs = fx.node.map_aggregate(dict(call.kwargs), self.node_of)
        self.node = self.graph.call_function(call.op, args, kwargs)
        self.node.stack_trace = user_frames(sys._getframe(2), record.__code__)
        self.node.meta["nn_module_stack"] = {name: (name, kind) for name, kind in self.path}

    def execute(self, call: Call, rule: Rule | None) -> Any:
        """Run an operator on data; of integers it is noted whether they follow from constants."""
        if call.op is aten._local_scalar_dense.default:
            return self.number(call)
        is_known = self.is_known(call)
        out = call.op(*call.args, **call.kwargs)
        if not is_known:
            forget_values(out)
            if torch.Tag.dynamic_output_shape in call.op.tags:
                self._decide()
        return out

    def number(self, call: Call) -> Any:
        """A Python number out of a tensor; one that depends on the inputs decides something."""
        tensor = call.tensors()[0]
        if value_of(tensor) is None:
            self._decide()
        return call.op(tensor)

    def _decide(self) -> None:
        place = self.labels.place.because(_DECISION, _DECISION_HINT)
        self.decisions.append(place.diagnostic())

    def end(self, call: Call) -> None:
        """Note what an operator returned."""
        assert self.node is not None
        if call.op is aten._local_scalar_dense.default and self.is_known(call):
            self.graph.erase_node(self.node)  # a constant, and nobody's operand
            return
        self._note(self.node, call.out)
        if isinstance(call.out, (list, tuple)):
            for k, item in enumerate(call.out):
                if isinstance(item, torch.Tensor):
                    part = self.graph.call_function(operator.getitem, (self.node, k))
                    part.meta.update(self.node.meta)
                    part.stack_trace = self.node.stack_trace
                    self._note(part, item)

    # -- around it --------------------------------------------------------------------------

    @contextmanager
    def modules_noted(self, twin: nn.Module) -> Iterator[None]:
        """Know which module is running."""
        handles = []
        for name, module in twin.named_modules():
            entry = name, type(module)
            handles += [
                module.register_forward_pre_hook(lambda *_, entry=entry: self.path.append(entry)),
                module.register_forward_hook(lambda *_: self._leave(), always_call=True),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self) -> None:
        self.path.pop()

    def finish(self, model: nn.Module, out: Any) -> Recording:
        """The graph of all that ran."""
        self.pin_unread()
        node = self.graph.output(packed(self.graph, out, self.node_of, self._note))
        pin_output(self.trace, node, out)
        self.trace.values[node.name] = snapshot(out, self.labels)
        for unread in reversed(self.graph.find_nodes(op="call_function", target=operator.getitem)):
            if not unread.users and unread.name in self.trace.values:
                self.graph.erase_node(unread)
                del self.trace.values[unread.name]
        root = clone_tree(model, lambda tensor: tensor)
        for name, constant in self.constants.items():
            root.register_buffer(name, constant.detach())
            self.trace.axes[name] = tuple(axes_of(constant, self.labels))
            self.trace.tied[name] = name
        graph_module = fx.GraphModule(root, self.graph, type(model).__name__)
        restore_root(graph_module, model)
        known = named_state(graph_module)
        for name in [name for name in self.trace.axes if name not in known]:
            del self.trace.axes[name], self.trace.tied[name]
        return Recording(graph_module, self.trace, tuple(dict.fromkeys(self.decisions)))
