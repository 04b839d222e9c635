"""Capture by running: the model itself under a dispatch mode that notes every operator.

For models that no tracer takes. Their forward runs once, on the example inputs with their data, so
whatever it decides is decided as for these; what it decides by is noted.
"""

from __future__ import annotations

import inspect
import operator
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from fxprune.errors import AnalysisError, Diagnostic, first_line
from fxprune.inputs import arguments_of_call
from fxprune.interpretation import decomposed_attention
from fxprune.known_values import forget_values
from fxprune.label_mode import LabelMode
from fxprune.labels import LabelAlgebra
from fxprune.module_trees import clone_tree, named_state, named_tensors, own_object, restore_root
from fxprune.rules import Call, Place, Rule, axes_of, locate, value_of, written
from fxprune.traces import Trace, label_input, label_state, pin_output, snapshot
from fxprune.tracing import packed, refuse_other_parts, unpack, user_frames
from fxprune.values import copied, memory, plain, tensors

aten = torch.ops.aten
_NODE = "_fxprune_node"
_CONSTANT = "_constant"
_DECISION = "forward goes on by the values in a tensor"
_DECISION_HINT = "only what the example inputs led to is analyzed; verify on other inputs too"
_READS = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__})
"""Methods that hand out data without an operator."""
_BY_DATA = frozenset({torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output})
_ARGUMENTS = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, slice, range)
"""Types of values other than tensors that the code of a graph can hold."""


@dataclass(frozen=True)
class Recording:
    """One run of a model.

    Attributes:
        graph_module: the operators that ran, as a graph that takes forward's arguments. It holds
            for inputs of the same shapes, and for the same decisions.
        trace: the labels of every node and state tensor.
        decisions: what ties the graph to these inputs. Mostly it is where forward may have decided
            by the value of a tensor: it was read as a Python number, or told how large another
            tensor is.
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
    kinds = {n: p.kind for n, p in inspect.signature(model.forward).parameters.items()}
    for name, value in values.items():
        rest = kinds.get(name) is inspect.Parameter.VAR_POSITIONAL
        recorder.place_input(name, value, "*" if rest else "")
    args, kwargs = arguments_of_call(twin, values)
    with torch.random.fork_rng(devices=[]), decomposed_attention(), torch.no_grad():
        torch.manual_seed(0)
        out = _called(twin, args, kwargs, recorder)
    recorder.check_state(twin)
    return recorder.finish(model, out)


def _called(twin: nn.Module, args: Any, kwargs: Any, recorder: _Recorder) -> Any:
    with recorder.modules_noted(twin), recorder.parameters_kept(), _Reads(recorder), recorder:
        try:
            return twin(*args, **kwargs)
        except AnalysisError:
            raise
        except Exception as error:
            raise AnalysisError(
                f"{type(twin).__name__} fails while it is recorded: {first_line(error)}",
                where=locate(recorder.node) if recorder.node is not None else "",
                why=type(error).__name__,
                hint="check that the model runs on these inputs",
            ) from error


class _Reads(TorchFunctionMode):
    """Sees data go where no operator tells of it."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function."""
        if func in _READS:
            self.recorder.taken_out(args[0])
        return func(*args, **(kwargs or {}))


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
        self.numbers: list[Diagnostic] = []
        self.updates_state = False
        self.saved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.in_memory: dict[int, list[nn.Parameter]] = defaultdict(list)
        for tensor in state.values():
            if isinstance(tensor, nn.Parameter):
                self.in_memory[memory(tensor)].append(tensor)

    # -- the parts of a graph ---------------------------------------------------------------

    def place_input(self, name: str, value: Any, prefix: str) -> None:
        """Add an argument of forward.

        The graph refuses other sizes and other values beside tensors, for these are all over it.
        """
        node = self.graph.create_node("placeholder", f"{prefix}{name}")
        label_input(self.trace, node, value)
        unpack(node, value, self._place)
        for other in refuse_other_parts(node, value):
            self._decide(f"forward takes a {type(other).__name__}, which no graph can compare")
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
                name = self._new_name()
                self.constants[name] = value
            node = self.graph.get_attr(name)
            self._note(node, value)
        return node

    def _new_name(self) -> str:
        taken = {*self.constants, *(name.partition(".")[0] for name in self.trace.axes)}
        return next(n for k in count() if (n := f"{_CONSTANT}{k}") not in taken)

    def _returned(self, value: Any) -> Any:
        """As `node_of`; an object that the code of a graph cannot make is told by its parts."""
        if isinstance(value, (torch.Tensor, *_ARGUMENTS)):
            return self.node_of(value)
        self._decide(f"forward returns a {type(value).__name__}, which no graph can make")
        inner = plain(value)
        return None if inner is value else packed(self.graph, inner, self._returned, self._note)

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
        if call.op._schema.is_mutable:
            self._written(written(call.op, call.args, call.kwargs))
        out = call.op(*call.args, **call.kwargs)
        if not is_known:
            forget_values(out)
            if not _BY_DATA.isdisjoint(call.op.tags):
                self._decide(_DECISION)
        return out

    def _written(self, targets: Iterable[torch.Tensor]) -> None:
        """Parameters are the user's, and get their values back; integers may count the calls."""
        for target in targets:
            self.updates_state |= id(target) in self.names and not target.is_floating_point()
            for parameter in self.in_memory.get(memory(target), ()):
                if id(parameter) not in self.saved:
                    self.saved[id(parameter)] = parameter, parameter.detach().clone()

    @contextmanager
    def parameters_kept(self) -> Iterator[None]:
        """Undo what forward writes into parameters."""
        try:
            yield
        finally:
            for parameter, value in self.saved.values():
                parameter.detach().copy_(value)

    def number(self, call: Call) -> Any:
        """A Python number out of a tensor; one that depends on the inputs decides something."""
        tensor = call.tensors()[0]
        if value_of(tensor) is None:
            self._decide(_DECISION)
        else:
            self.numbers.append(self._diagnostic(_DECISION))
        return call.op(tensor)

    def taken_out(self, tensor: torch.Tensor) -> None:
        """Data leaves by no operator: all of it matters, and what becomes of it is not seen."""
        if value_of(tensor) is None:
            self._decide(_DECISION)
            for axis in axes_of(tensor, self.labels):
                self.labels.pin_axis(axis, self.decisions[-1])

    def check_state(self, twin: nn.Module) -> None:
        """What the next call would find otherwise: integers that were updated, other tensors."""
        if self.updates_state:
            self.decisions += self.numbers
        now = named_tensors(twin)
        for name in [name for name, tensor in self.state.items() if now.get(name) is not tensor]:
            self._decide(f"forward puts another tensor in the place of {name}")

    def _decide(self, what: str) -> None:
        self.decisions.append(self._diagnostic(what))

    def _diagnostic(self, what: str) -> Diagnostic:
        place = self.labels.place
        if isinstance(place, Place):
            return place.because(what, _DECISION_HINT).diagnostic()
        return Diagnostic(what, hint=_DECISION_HINT)

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
        node = self.graph.output(packed(self.graph, out, self._returned, self._note))
        pin_output(self.trace, node, out)
        self.trace.values[node.name] = snapshot(out, self.labels)
        for unread in reversed(self.graph.find_nodes(op="call_function", target=operator.getitem)):
            if not unread.users and unread.name in self.trace.values:
                self.graph.erase_node(unread)
                del self.trace.values[unread.name]
        root = clone_tree(model, lambda tensor: tensor)
        for name, constant in self.constants.items():
            root.register_buffer(name, constant.detach(), persistent=False)
            self.trace.axes[name] = tuple(axes_of(constant, self.labels))
            self.trace.tied[name] = name
        graph_module = fx.GraphModule(root, self.graph, type(model).__name__)
        restore_root(graph_module, model)
        graph_module._non_persistent_buffers_set |= self.constants.keys()  # as in the root
        known = named_state(graph_module)
        for name in [name for name in self.trace.axes if name not in known]:
            del self.trace.axes[name], self.trace.tied[name]
        return Recording(graph_module, self.trace, tuple(dict.fromkeys(self.decisions)))
