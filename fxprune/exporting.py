"""Capture by `torch.export`, for models that cannot be traced symbolically.

Export runs the model on tensors without data, so control flow on shapes and types is no obstacle.
The graph holds ATen operators, is of the mode (train or eval) that the model is in, and takes the
arguments of the model's own forward.
"""

from __future__ import annotations

import importlib
import inspect
import io
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from types import MappingProxyType
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from fxprune.errors import CaptureError
from fxprune.export_guards import assert_guards
from fxprune.module_trees import attribute_at, clone_tree
from fxprune.tracing import packed, refuse_other_parts, refuse_others, unpack

aten = torch.ops.aten
_CHECKS = frozenset(
    {
        *(aten._assert_tensor_metadata.default, aten._assert_scalar.default),
        *(aten._assert_async.msg, aten.sym_constrain_range.default),
        aten.sym_constrain_range_for_size.default,
    }
)


def exported(model: nn.Module, arguments: Mapping[str, Any]) -> fx.GraphModule:
    """The graph that `torch.export.export` (non-strict) makes of a model.

    The batch (dim 0 of the inputs, if it is the same for all) stays dynamic where the model allows
    it; all other sizes are those of the inputs.

    Args:
        model: the model, which is not changed; the graph shares its parameters and buffers.
        arguments: values of forward's arguments by name; of tensors only shapes and dtypes matter.

    Raises:
        Exception: whatever export raises where it fails.
    """
    if any(p.kind is p.VAR_POSITIONAL and arguments.get(n) for n, p in _parameters(model).items()):
        raise TypeError("forward takes a variable number of arguments")
    device = next((t.device for t in model.parameters()), torch.device("cpu"))
    values = {
        name: pytree.tree_map(lambda v: _without_data(v, device), value)
        for name, value in arguments.items()
    }
    program = _dynamic(model, values)
    if program is not None:
        with suppress(CaptureError):  # of an assumption that cannot be asserted
            return _with_signature(model, program_module(program, values), arguments)
    fixed = _program(model, values, None)
    return _with_signature(model, program_module(fixed, values), arguments)


def program_module(
    program: torch.export.ExportedProgram, example: Mapping[str, Any] = MappingProxyType({})
) -> fx.GraphModule:
    """The graph of an exported program as a module that takes the same arguments.

    It refuses inputs of sizes that the program does not hold for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Any = program.module(check_guards=False)
    graph_module: fx.GraphModule = module
    graph_module.graph._tracer_cls = None  # that of export cannot read a pickle again
    assert_guards(graph_module, program, example)
    return graph_module


def program_inputs(program: torch.export.ExportedProgram, given: Any) -> Any:
    """Example inputs of an exported program: a value for each input of its graph.

    Args:
        program: the program.
        given: as for `fxprune.analyze`, in the structure that the exported model took; None for
            those that the program was exported with.

    Returns:
        The values in order, if `given` has that structure, else `given` itself; None if there are
        none.
    """
    if given is None:
        kept = program.example_inputs
        return None if kept is None else tuple(pytree.tree_leaves(kept))
    args, kwargs = given if isinstance(given, (tuple, list)) else (given,), {}
    if isinstance(given, Mapping):
        args, kwargs = (), dict(given)
    leaves, spec = pytree.tree_flatten((tuple(args), kwargs))
    return tuple(leaves) if spec == program.call_spec.in_spec else given


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters


def _without_data(value: Any, device: torch.device) -> Any:
    if not isinstance(value, torch.Tensor) or "meta" not in (value.device.type, device.type):
        return value
    return torch.zeros_like(value, device=device)


def _program(model: nn.Module, values: Mapping[str, Any], shapes: Any) -> Any:
    twin = clone_tree(model, lambda tensor: tensor)  # forward can set attributes
    with quiet(), torch.no_grad():
        return torch.export.export(twin, (), dict(values), dynamic_shapes=shapes, strict=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Export warns and logs, and where it fails it prints all that it has so far."""
    threshold = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(threshold)


def _dynamic(model: nn.Module, values: Mapping[str, Any]) -> Any:
    """The program with a dynamic batch, or None if the model fixes it."""
    tensors = [v for v in pytree.tree_leaves(dict(values)) if isinstance(v, torch.Tensor)]
    batches = {t.shape[0] for t in tensors if t.dim()}
    if not batches:
        return None

    def at_least_two(value: Any) -> Any:
        """A size of one would be taken for a constant."""
        is_one = isinstance(value, torch.Tensor) and value.dim() and batches == {1}
        return torch.cat([value, value]) if is_one else value

    several = pytree.tree_map(at_least_two, dict(values))
    shapes = pytree.tree_map(
        lambda v: {0: torch.export.Dim.AUTO} if isinstance(v, torch.Tensor) and v.dim() else None,
        several,
    )
    try:
        program = _program(model, several, shapes)
    except _undecided():
        raise  # a fixed batch would change nothing
    except Exception:  # noqa: BLE001  # whatever the reason, the fixed batch is tried next
        return None
    inputs = [n.meta.get("val") for n in program.graph.nodes if n.name in _user_inputs(program)]
    sizes = [v.shape[0] for v in inputs if isinstance(v, torch.Tensor) and v.dim()]
    fixed = [isinstance(size, int) for size in sizes]
    return None if all(fixed) or (any(fixed) and len(batches) == 1) else program


def _undecided() -> type[Exception]:
    """What export raises at a branch by a value; its module takes a quarter of a second to import.

    An except clause looks up its class only once something was raised.
    """
    shapes = importlib.import_module("torch.fx.experimental.symbolic_shapes")
    kind: type[Exception] = shapes.GuardOnDataDependentSymNode
    return kind


def _user_inputs(program: Any) -> set[str]:
    return {name for name in program.graph_signature.user_inputs if isinstance(name, str)}


def _with_signature(
    model: nn.Module, module: fx.GraphModule, arguments: Mapping[str, Any]
) -> fx.GraphModule:
    """The same graph with the arguments and the outputs of the model's own forward."""
    codegen: Any = module.graph._codegen
    info = codegen.pytree_info
    old = [node for node in module.graph.nodes if node.op == "placeholder"]
    given_args, given = pytree.tree_unflatten(list(old), info.in_spec)
    assert not given_args
    graph = fx.Graph()
    new: dict[fx.Node, Any] = {}
    is_optional = False  # from the first argument with a default on, all need one
    for name, parameter in _parameters(model).items():
        if name in given:
            default = parameter.default if is_optional else inspect.Parameter.empty
            argument = graph.placeholder(name, default_value=default)
            unpack(argument, given[name], new.__setitem__)
            refuse_other_parts(argument, arguments[name])
        elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            is_optional = True
            value = arguments.get(name, parameter.default)
            refuse_others(graph.placeholder(name, default_value=value), value)
    flat = _copied(graph, module, new)
    value = pytree.tree_unflatten(list(flat), info.out_spec)
    graph.output(packed(graph, value, lambda leaf: leaf))
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op == "get_attr":
            graph.erase_node(node)
    return fx.GraphModule(module, graph, type(model).__name__)


def _copied(graph: fx.Graph, module: fx.GraphModule, new: dict[fx.Node, Any]) -> Any:
    """Copy the nodes of a graph behind those of another, and return what it outputs.

    1. Checks of types, and of sizes in the middle, are left out: those of the inputs say it all.
    2. `aten.view` becomes `aten.reshape`, since other kernels lay tensors out otherwise.
    3. Parts under `torch.no_grad()` or disabled autocast are graphs of their own, and inlined.
    """
    for node in module.graph.nodes:
        if node.op == "placeholder" or (not node.users and node.target in _CHECKS):
            continue
        if node.op == "output":
            return fx.map_arg(node.args[0], lambda n: new[n])
        if node.op == "get_attr" and isinstance(_attribute(module, node), fx.GraphModule):
            continue
        if node.target is operator.getitem and isinstance(new.get(node.args[0]), (list, tuple)):
            new[node] = new[node.args[0]][node.args[1]]
        elif (inner := _inner_graph(module, node)) is not None:
            part, operands = inner
            inputs = [n for n in part.graph.nodes if n.op == "placeholder"]
            values = [fx.map_arg(operand, lambda n: new[n]) for operand in operands]
            new[node] = _copied(graph, part, dict(zip(inputs, values, strict=True)))
        else:
            new[node] = graph.node_copy(node, lambda n: new[n])
            if node.target is aten.view.default:
                new[node].target = aten.reshape.default
    raise AssertionError("a graph has an output")


def _attribute(module: nn.Module, node: fx.Node) -> Any:
    return attribute_at(module, str(node.target))


def _inner_graph(
    module: fx.GraphModule, node: fx.Node
) -> tuple[fx.GraphModule, Sequence[Any]] | None:
    """The graph that a wrapping operator runs, and its operands, if wrapping changes no value."""
    name = str(getattr(node.target, "__name__", ""))
    if name == "wrap_with_set_grad_enabled":
        first = 1
    elif name == "wrap_with_autocast" and node.args[2] is False:
        first = 4
    else:
        return None
    part, *operands = node.args[first:]
    assert isinstance(part, fx.Node)
    return _attribute(module, part), operands
