"""A `torch.fx` tracer that keeps what the stock one loses."""

from __future__ import annotations

import dataclasses
import operator
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.fx._symbolic_trace import _assert_is_none

if TYPE_CHECKING:
    from types import CodeType, FrameType

_DEPTH = 8
_LIBRARIES = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}")


class _Proxy(fx.Proxy):
    """A proxy that records `y += 1` as such. The stock one takes it for `y = y + 1`.

    The difference shows where `y` has another name, or is a view of another tensor.
    """


def _recorded(target: Any) -> Any:
    def assign(self: _Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    return assign


IN_PLACE: tuple[Callable[[Any, Any], Any], ...] = (
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv),
    *(operator.imod, operator.ipow, operator.iand, operator.ior, operator.ixor),
)
"""The functions of `y += 1` and the like."""
for _function in IN_PLACE:
    setattr(_Proxy, f"__{_function.__name__}__", _recorded(_function))


class _NotedFlag:
    """Stands for `nn.Module.training` while a model is traced, and notes who reads it."""

    def __init__(self) -> None:
        self.readers: list[nn.Module] = []

    def __get__(self, module: nn.Module, owner: type[nn.Module]) -> bool:
        self.readers.append(module)
        return bool(vars(module)["training"])

    def __set__(self, module: nn.Module, value: bool) -> None:
        vars(module)["training"] = value


class Tracer(fx.Tracer):
    """The stock tracer, which also notes where in the user's code every node was made.

    Torch can note whole tracebacks itself (`record_stack_traces`), which takes longer than all the
    rest of tracing.
    """

    proxy_buffer_attributes = True  # or an update of a buffer happens while tracing, and is lost

    def __init__(self, absent: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.path: list[str] = []
        self.absent = absent or {}
        self.flag_readers: list[str] = []

    def trace(self, root: Any, concrete_args: Any = None) -> fx.Graph:
        """Trace, and note the modules whose forward reads `self.training`."""
        flag = _NotedFlag()
        nn.Module.training = flag  # type: ignore[assignment]  # fx patches nn.Module so, too
        try:
            graph = super().trace(root, concrete_args)
        finally:
            del nn.Module.training
        names = {id(module): name for name, module in root.named_modules()}
        self.flag_readers = [names.get(id(m), "") or type(m).__name__ for m in flag.readers]
        return graph

    def create_args_for_root(self, *args: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        """Arguments that are absent are their default values; the graph refuses any others."""
        function, given = super().create_args_for_root(*args, **kwargs)
        return function, [self._default(argument) for argument in given]

    def _default(self, argument: Any) -> Any:
        is_absent = isinstance(argument, fx.Proxy) and argument.node.target in self.absent
        if not is_absent:
            return argument
        value = self.absent[argument.node.target]
        refuse_others(argument.node, value)
        return value

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A proxy that knows in-place assignment."""
        return _Proxy(node, self)

    def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        """Keep track of the module that is being traced, for error messages."""
        self.path.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Note the user's frames, the innermost last, as a traceback prints them."""
        node = super().create_node(*args, **kwargs)
        node.stack_trace = user_frames(sys._getframe(1), fx.Tracer.trace.__code__)
        return node


def user_frames(frame: FrameType | None, outermost: CodeType) -> str:
    """The user's lines that are being run, the innermost last, as a traceback prints them."""
    lines: list[str] = []
    while frame is not None and frame.f_code is not outermost and len(lines) < _DEPTH:
        name = frame.f_code.co_filename
        if not name.startswith((*_LIBRARIES, "<")):
            lines.append(f'File "{name}", line {frame.f_lineno}, in {frame.f_code.co_name}')
        frame = frame.f_back
    return "\n".join(reversed(lines))


def refuse_others(placeholder: fx.Node, value: Any) -> None:
    """Let a graph that was captured for one value of an argument raise for all others."""
    graph = placeholder.graph
    text = f"the graph was captured for {placeholder.target} = {value!r}"
    if value is None:
        graph.call_function(_assert_is_none, (placeholder, text))
    elif isinstance(value, (bool, int, float, str)):
        equal = graph.call_function(operator.eq, (placeholder, value))
        graph.call_function(torch._assert, (equal, text))


def unpack(
    graph: fx.Graph, node: fx.Node, value: Any, found: Callable[[Any, fx.Node], None]
) -> None:
    """Read the leaves of an argument from where they are in it, and tell them with their nodes."""
    if isinstance(value, (torch.Tensor, fx.Node)):
        found(value, node)
    elif isinstance(value, (Mapping, list, tuple)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            unpack(graph, graph.call_function(operator.getitem, (node, key)), item, found)


def packed(
    graph: fx.Graph,
    value: Any,
    node_of: Callable[[Any], Any],
    made: Callable[[fx.Node, Any], None] = lambda node, value: None,
) -> Any:
    """A value as an argument: containers are literals, other types with parts are called.

    Args:
        graph: where calls are added.
        value: the value; its leaves are replaced by what `node_of` returns.
        node_of: from a leaf to its node (or to itself).
        made: told every call, and the value that it returns.
    """
    if type(value) is dict:
        return {key: packed(graph, item, node_of, made) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(packed(graph, item, node_of, made) for item in value)
    parts = value if isinstance(value, Mapping) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and parts is None:
        parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if parts is None:
        return node_of(value)
    items = {key: packed(graph, item, node_of, made) for key, item in parts.items()}
    node = graph.call_function(type(value), (), items)
    made(node, value)
    return node


def place_of(tracer: Tracer, error: Exception) -> str:
    """The module and the user's line where tracing failed."""
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
