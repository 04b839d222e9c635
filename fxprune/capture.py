"""From a model to a `torch.fx.GraphModule` that keeps module names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from fxprune.errors import CaptureError, Diagnostic, InputError, first_line
from fxprune.module_trees import clone_tree, restore_root
from fxprune.tracing import Tracer, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def capture(model: nn.Module, absent: Mapping[str, Any] | None = None) -> fx.GraphModule:
    """Trace a model symbolically; a GraphModule passes as it is. The model is not changed.

    The result shares its tensors with the model and keeps the train / eval flag of every module
    and the hooks of the model and of leaf modules (those of `torch.nn`).

    Args:
        model: any module whose forward does not branch on tensor values or shapes.
        absent: arguments that are not given, with their default values. Those that are None are
            constants of the graph (`if mask is not None`), others if it cannot be traced otherwise.

    Raises:
        InputError: `model` is not a module.
        CaptureError: tracing failed; says in which module, on which line, and what to do.
    """
    if isinstance(model, fx.GraphModule):
        return model
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
    twin, graph = _traced(model, absent or {})
    graph._tracer_cls = fx.Tracer  # so that reading a pickle of the result needs torch only
    graph_module = fx.GraphModule(twin, graph, type(model).__name__)
    restore_root(graph_module, model)
    return graph_module


def _traced(model: nn.Module, absent: Mapping[str, Any]) -> tuple[nn.Module, fx.Graph]:
    """A graph, and the twin whose forward ran (which can set attributes)."""
    missing = {name: value for name, value in absent.items() if value is None}
    attempts = [Tracer(missing), Tracer(absent)]
    for tracer in attempts[: 1 + (absent != missing)]:
        twin = clone_tree(model, lambda tensor: tensor)
        try:
            return twin, tracer.trace(twin)
        except Exception as error:  # noqa: BLE001  # whatever a user's forward raises
            failed, cause = tracer, error
    raise CaptureError(
        f"{type(model).__name__} cannot be traced symbolically: {first_line(cause)}",
        where=place_of(failed, cause),
        why="its forward does something with tensor values, shapes or types that needs real"
        " tensors",
        hint="move the branch out of forward, mark the function with torch.fx.wrap, or pass a"
        " GraphModule",
    ) from cause


def fixed_flags(model: nn.Module, graph_module: fx.GraphModule) -> list[Diagnostic]:
    """A Diagnostic if the graph would be another one in train (or in eval) mode.

    A forward that reads `self.training` leaves a graph of the mode that it was traced in.
    """
    readers = sorted({name for name, m in model.named_modules() if _reads_training_flag(m)})
    if not readers or isinstance(model, fx.GraphModule):
        return []
    twin = clone_tree(model, lambda tensor: tensor)
    for module in twin.modules():
        module.training = not module.training
    tracer = Tracer()
    try:
        other = tracer.trace(twin)
    except Exception:  # noqa: BLE001  # whatever a user's forward raises: it is another graph
        differs = True
    else:
        differs = _calls(other) != _calls(graph_module.graph)
    if not differs:
        return []
    mode = "train" if model.training else "eval"
    where = ", ".join(name or type(model).__name__ for name in readers[:3])
    return [
        Diagnostic(
            f"forward depends on the train / eval flag ({where}): the result computes what the"
            f" model does in {mode} mode, whatever mode it is put into",
            hint="shrink the model in the mode in which the result will run",
        )
    ]


def _reads_training_flag(module: nn.Module) -> bool:
    """Whether code of the user's class mentions the flag."""
    classes = [c for c in type(module).__mro__ if not c.__module__.startswith("torch.")]
    functions = [f for c in classes for f in vars(c).values() if hasattr(f, "__code__")]
    return any("training" in f.__code__.co_names for f in functions)


def _calls(graph: fx.Graph) -> list[str]:
    return [f"{n.op} {n.target} {n.args} {n.kwargs}" for n in graph.nodes]
