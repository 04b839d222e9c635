"""From a model to a `torch.fx.GraphModule` that keeps module names."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from fxprune.errors import CaptureError, InputError, first_line
from fxprune.module_trees import clone_tree, restore_root

if TYPE_CHECKING:
    from types import FrameType

_DEPTH = 8
_LIBRARIES = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}")


class _Tracer(fx.Tracer):
    """The stock tracer, which also notes where in the user's code every node was made.

    Torch can note whole tracebacks itself (`record_stack_traces`), which takes longer than all the
    rest of tracing.
    """

    proxy_buffer_attributes = True  # or an update of a buffer happens while tracing, and is lost

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []

    def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        """Keep track of the module that is being traced, for error messages."""
        self.path.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Note the user's frames, the innermost last, as a traceback prints them."""
        node = super().create_node(*args, **kwargs)
        frame: FrameType | None = sys._getframe(1)
        lines: list[str] = []
        while frame is not None and frame.f_code is not capture.__code__ and len(lines) < _DEPTH:
            name = frame.f_code.co_filename
            if not name.startswith((*_LIBRARIES, "<")):
                lines.append(f'File "{name}", line {frame.f_lineno}, in {frame.f_code.co_name}')
            frame = frame.f_back
        node.stack_trace = "\n".join(reversed(lines))
        return node


def capture(model: nn.Module) -> fx.GraphModule:
    """Trace a model symbolically; a GraphModule passes as it is. The model is not changed.

    The result shares its tensors with the model and keeps the train / eval flag of every module
    and the hooks of the model and of leaf modules (those of `torch.nn`).

    Args:
        model: any module whose forward does not branch on tensor values or shapes.

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
    for name, tensor in model.named_parameters():
        if is_lazy(tensor):
            raise InputError(f"parameter {name} is not initialized", hint="run the model once")
    tracer = _Tracer()
    twin = clone_tree(
        model, lambda tensor: tensor
    )  # tracing runs forward, which can set attributes
    try:
        with warnings.catch_warnings():  # of reentrant checkpointing, which sees no tensors here
            warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
            graph = tracer.trace(twin)
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} cannot be traced symbolically: {first_line(error)}",
            where=_where(tracer, error),
            why="its forward does something with tensor values, shapes or types that needs real"
            " tensors",
            hint="move the branch out of forward, mark the function with torch.fx.wrap, or pass a"
            " GraphModule",
        ) from error
    graph._tracer_cls = fx.Tracer  # so that reading a pickle of the result needs torch only
    graph_module = fx.GraphModule(twin, graph, type(model).__name__)
    restore_root(graph_module, model)
    return graph_module


def _where(tracer: _Tracer, error: Exception) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_LIBRARIES)
    ]
    module = f"module {tracer.path[-1]}" if tracer.path else "the top module"
    if not frames:
        return module
    frame = frames[-1]
    file = "/".join(frame.filename.split("/")[-2:])
    return f"{module}, {file}:{frame.lineno}: {frame.line}"
