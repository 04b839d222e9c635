"""Abstract interpretation: run a captured graph on meta tensors and carry labels along."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from fxprune.errors import AnalysisError, FxPruneError, first_line
from fxprune.interpreter import Interpreter
from fxprune.known_values import LARGEST_KNOWN, on_meta
from fxprune.label_mode import LabelMode
from fxprune.labels import LabelAlgebra
from fxprune.module_trees import clone_tree, named_state, to_meta
from fxprune.rules import Place, locate, put_value
from fxprune.traces import Trace, label_input, label_state, pin_output, snapshot
from fxprune.values import mapped

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        return on_meta(torch.tensor(value))


def interpret(
    graph_module: fx.GraphModule, inputs: tuple[Any, ...], mode: LabelMode | None = None
) -> Trace:
    """Interpret a graph once, without data, and find out which positions belong together.

    Args:
        graph_module: the captured model; it is not changed.
        inputs: one value for each placeholder; of tensors only shape and dtype matter (and the
            values of integers).
        mode: what else is done with every operator; its trace has no labels yet.

    Raises:
        AnalysisError: a node failed, or asked for a value that is not known without data.
    """
    mode = LabelMode(Trace(LabelAlgebra())) if mode is None else mode
    trace = mode.trace
    shadow = clone_tree(graph_module, shadow_state)
    label_state(trace, named_state(shadow))
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


@contextmanager
def decomposed_attention() -> Iterator[None]:
    """Keep torch from fused attention, whose kernels differ from device to device."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def replay(graph_module: fx.GraphModule, inputs: Sequence[Any], trace: Trace) -> Any:
    """Interpret a graph on meta tensors that carry axes already; notes values in `trace`.

    Raises:
        AnalysisError: as `interpret`.
    """
    mode = LabelMode(trace)
    with decomposed_attention(), torch.no_grad(), mode:
        return _Interpreter(graph_module, mode).run(*inputs, enable_io_processing=False)


def shadow_state(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of a model without data, which knows its value if it is integers."""
    shadow = to_meta(tensor)
    known = not tensor.is_floating_point() and tensor.device.type != "meta"
    if known and tensor.numel() <= LARGEST_KNOWN:
        put_value(shadow, tensor.detach().cpu().clone())
    return shadow


def _on_meta_input(value: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(value, device="meta", requires_grad=False)
