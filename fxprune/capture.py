"""From a model to a `torch.fx.GraphModule` that keeps module names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from fxprune.errors import CaptureError, Diagnostic, InputError, first_line
from fxprune.exporting import exported
from fxprune.inputs import absent_arguments, given_arguments
from fxprune.module_trees import clone_tree, restore_root
from fxprune.tracing import Tracer, place_of, same_trace

Rung: TypeAlias = Literal["given", "symbolic_trace", "export"]


def capture(model: nn.Module, example_inputs: Any = None) -> fx.GraphModule:
    """Turn a model into a graph; a GraphModule passes as it is. The model is not changed.

    First `torch.fx.symbolic_trace` is tried, which keeps modules and reads best, then
    `torch.export`. The result shares its tensors with the model. If it was traced symbolically, it
    keeps the train / eval flag of every module and the hooks of the model and of leaf modules
    (those of `torch.nn`).

    Args:
        model: any module whose forward does not branch on the values of tensors.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments. Export needs
            them; tracing takes arguments that they leave at None for constants.

    Raises:
        InputError: `model` is not a module, or the inputs do not fit its arguments.
        CaptureError: both failed; says in which module, on which line, and what to do.
    """
    return capture_with(model, example_inputs).graph_module


class Captured(NamedTuple):
    """A graph and how it was made.

    Attributes:
        graph_module: the graph.
        rung: the way it was made.
        absent: arguments that are constants in it, with their values.
        flag_readers: names of the modules whose forward read the train / eval flag.
    """

    graph_module: fx.GraphModule
    rung: Rung
    absent: Mapping[str, Any] = MappingProxyType({})
    flag_readers: Sequence[str] = ()


def capture_with(model: nn.Module, example_inputs: Any = None) -> Captured:
    """As `capture`; also tells which way it went."""
    if isinstance(model, fx.GraphModule):
        return Captured(model, "given")
    _check_model(model)
    given = given_arguments(model, example_inputs)
    absent = absent_arguments(model, given)
    try:
        return _traced(model, absent)
    except CaptureError as error:
        if example_inputs is None:
            raise
        try:
            chosen = {name: value for name, value in given.items() if name not in absent}
            return Captured(exported(model, chosen), "export")
        except Exception as other:
            raise CaptureError(
                error.what,
                where=error.where,
                why=f"{error.why}; torch.export fails too: {first_line(other)}",
                hint=error.hint,
            ) from other


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(
            f"the model is a {type(model).__name__}, not a torch.nn.Module",
            hint="pass the module itself",
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError(
            "a TorchScript module has no Python forward to trace",
            hint="pass the original nn.Module, before torch.jit.script or trace",
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise CaptureError(f"{type(model).__name__} wraps the model", hint="pass model.module")
    if hasattr(model, "_orig_mod"):
        raise CaptureError("torch.compile wraps the model", hint="pass model._orig_mod")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise InputError(f"{name} is not initialized", hint="run the model once")


def _traced(model: nn.Module, absent: Mapping[str, Any]) -> Captured:
    """The graph by symbolic tracing of a twin, because forward can set attributes."""
    missing = {name: value for name, value in absent.items() if value is None}
    attempts = [Tracer(missing), Tracer(absent)]
    for tracer in attempts[: 1 + (absent != missing)]:
        twin = clone_tree(model, lambda tensor: tensor)
        try:
            with warnings.catch_warnings():  # of reentrant checkpoints, which see no tensors here
                warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
                graph = tracer.trace(twin)
        except Exception as error:  # noqa: BLE001  # whatever a user's forward raises
            failed, cause = tracer, error
        else:
            graph._tracer_cls = fx.Tracer  # so that reading a pickle of the result needs torch only
            for node in graph.nodes:
                if isinstance(node.type, str):  # an annotation that torch 2.13 cannot pickle
                    node.type = None
            graph_module = fx.GraphModule(twin, graph, type(model).__name__)
            restore_root(graph_module, model)
            readers = tracer.flag_readers
            return Captured(graph_module, "symbolic_trace", tracer.absent, readers)
    raise CaptureError(
        f"{type(model).__name__} cannot be traced symbolically: {first_line(cause)}",
        where=place_of(failed, cause),
        why="its forward does something with tensor values, shapes or types that needs real"
        " tensors",
        hint="move the branch out of forward, mark the function with torch.fx.wrap, or pass a"
        " GraphModule",
    ) from cause


def fixed_flags(model: nn.Module, captured: Captured) -> list[Diagnostic]:
    """A Diagnostic if the graph would be another one in train (or in eval) mode.

    A forward that reads `self.training` leaves a graph of the mode that it was traced in, and
    export always does.
    """
    if captured.rung == "export":
        return [_fixed(model, "as in every graph of torch.export")]
    if not captured.flag_readers:
        return []
    twin = clone_tree(model, lambda tensor: tensor)
    for module in twin.modules():
        module.training = not module.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if same_trace(twin, captured.absent, captured.graph_module.graph):
            return []
    readers = list(dict.fromkeys(captured.flag_readers))
    return [_fixed(model, ", ".join(readers[:3]))]


def _fixed(model: nn.Module, where: str) -> Diagnostic:
    mode = "train" if model.training else "eval"
    return Diagnostic(
        f"forward depends on the train / eval flag ({where}): the result computes what the"
        f" model does in {mode} mode, whatever mode it is put into",
        hint="shrink the model in the mode in which the result will run",
    )
