"""A `torch.fx` tracer that keeps what the stock one loses."""

from __future__ import annotations

import dataclasses
import dis
import operator
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.fx._symbolic_trace import _assert_is_none
from torch.utils import _pytree as pytree

from fxprune.errors import CaptureError
from fxprune.module_trees import buffers_in, parameters_in, walk
from fxprune.values import parts, plain

if TYPE_CHECKING:
    from types import CodeType, FrameType

_DEPTH = 8
_LIBRARIES = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}")
_NUMBERS = frozenset({int, float, bool, str, type(None)})
_NOT_OF_THE_USER = (*_LIBRARIES, "<")


@lru_cache(maxsize=1024)
def _unpacked(code: CodeType, offset: int) -> int | None:
    """How many values the instruction at an offset unpacks (`a, b = x`); None if it is another."""
    for instruction in dis.get_instructions(code):
        if instruction.offset == offset:
            return instruction.arg if instruction.opname == "UNPACK_SEQUENCE" else None
    return None


class _Unpackable(fx.Proxy):
    """A proxy that can be unpacked. The stock one reads the caller's bytecode anew every time."""

    def __iter__(self) -> Iterator[fx.Proxy]:
        frame = sys._getframe(1)
        count = _unpacked(frame.f_code, frame.f_lasti)
        if count is None:
            return self.tracer.iter(self)  # which explains that it cannot be done
        return (self[index] for index in range(count))  # type: ignore[index]  # fx adds it


class _Attribute(_Unpackable, fx.proxy.Attribute):
    """The attribute of a value: `x.shape`."""


class _Proxy(_Unpackable):
    """A proxy that records `y += 1` as such. The stock one takes it for `y = y + 1`.

    The difference shows where `y` has another name, or is a view of another tensor.
    """

    def __getattr__(self, name: str) -> fx.proxy.Attribute:
        return _Attribute(self, name)


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


def _is_update(value: Any, path: str, name: str) -> bool:
    """Whether what was assigned to a buffer is the buffer itself, changed in place or cast."""
    if not isinstance(value, fx.Proxy):
        return False
    node = value.node
    while node.target in (*IN_PLACE, "to", "type_as") and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node.op == "get_attr" and node.target == f"{path}.{name}".lstrip(".")


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
        self.tensors: dict[int, tuple[str, torch.Tensor]] = {}

    def trace(self, root: Any, concrete_args: Any = None) -> fx.Graph:
        """Trace, and note the modules whose forward reads `self.training`.

        Raises:
            CaptureError: forward does what a graph cannot repeat: it draws random numbers to decide
                by, or gives a buffer a new value by assignment.
        """
        flag = _NotedFlag()
        state = {**buffers_in(root), **parameters_in(root)}
        self.tensors = {id(tensor): (name, tensor) for name, tensor in state.items()}
        buffers = [(n, m._buffers, dict(m._buffers)) for n, m in walk(root) if m._buffers]
        random = torch.random.get_rng_state()
        nn.Module.training = flag  # type: ignore[assignment]  # fx patches nn.Module so, too
        try:
            graph = super().trace(root, concrete_args)
        finally:
            del nn.Module.training
        for path, table, tensors in buffers:
            for name, tensor in tensors.items():
                if table.get(name) is not tensor and not _is_update(table.get(name), path, name):
                    raise CaptureError(f"forward assigns another tensor to the buffer {name}")
            table.update(tensors)  # `self.steps += 1` put a proxy there
        if not torch.equal(random, torch.random.get_rng_state()):
            raise CaptureError("forward draws random numbers that do not depend on its inputs")
        names = {id(module): name for name, module in walk(root)}
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

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As the stock one, which searches the whole model whenever a tensor is read."""
        name, tensor = self.tensors.get(id(attr_val), ("", None))
        if tensor is None or tensor is not attr_val:
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A proxy that knows in-place assignment."""
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        """As the stock one, which asks about rare types first."""
        if isinstance(a, fx.Proxy):
            return a.node
        return a if type(a) in _NUMBERS else super().create_arg(a)

    def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        """Keep track of the module that is being traced and of the lines that call it."""
        self.path.append(self.path_of_module(m))
        callers = _lines(sys._getframe(1), fx.Tracer.trace.__code__)  # which `_lines` looks up
        result = super().call_module(m, forward, args, kwargs)
        del callers
        self.path.pop()
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Note the user's frames, the innermost last, as a traceback prints them."""
        node = super().create_node(*args, **kwargs)
        node.stack_trace = user_frames(sys._getframe(1), fx.Tracer.trace.__code__)
        return node


def user_frames(frame: FrameType | None, outermost: CodeType) -> str:
    """The user's lines that are being run, the innermost last, as a traceback prints them."""
    return "\n".join(reversed(_lines(frame, outermost)))


def _lines(frame: FrameType | None, outermost: CodeType) -> list[str]:
    """The user's lines that led to a frame, the innermost first.

    Those that called the module that is being traced are known already.
    """
    found: list[str] = []
    call_module = Tracer.call_module.__code__
    while frame is not None and frame.f_code is not outermost and len(found) < _DEPTH:
        if frame.f_code is call_module:
            return [*found, *frame.f_locals["callers"]][:_DEPTH]
        name = frame.f_code.co_filename
        if not name.startswith(_NOT_OF_THE_USER):
            found.append(f'File "{name}", line {frame.f_lineno}, in {frame.f_code.co_name}')
        frame = frame.f_back
    return found


class _Retracer(Tracer):
    """A tracer that stops as soon as it makes a node that another graph has not."""

    def __init__(self, absent: Mapping[str, Any], other: fx.Graph) -> None:
        super().__init__(absent)
        self.expected = iter(other.nodes)
        self.differs = False

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Compare every node; where it was made is not asked for."""
        node = fx.Tracer.create_node(self, *args, **kwargs)
        expected = next(self.expected, None)
        if expected is None or _call(node) != _call(expected):
            self.differs = True
            raise CaptureError("the model leaves another graph than before")
        return node


def _call(node: fx.Node) -> str:
    return f"{node.op} {node.target} {node.args} {node.kwargs}"


def same_trace(root: nn.Module, absent: Mapping[str, Any], graph: fx.Graph) -> bool:
    """Whether a model leaves the graph that it left before; False if tracing it fails."""
    tracer = _Retracer(absent, graph)
    try:
        tracer.trace(root)
    except Exception:  # noqa: BLE001  # whatever a user's forward raises: it is another graph
        return False
    return not tracer.differs and next(tracer.expected, None) is None


def refuse_others(node: fx.Node, value: Any) -> None:
    """Let a graph that was captured for one value of an argument raise for all others."""
    graph = node.graph
    text = f"the graph was captured for {node.name} = {value!r}"
    if value is None:
        graph.call_function(_assert_is_none, (node, text))
    elif isinstance(value, (bool, int, float, str)):
        equal = graph.call_function(operator.eq, (node, value))
        graph.call_function(torch._assert, (equal, text))


def refuse_other_parts(node: fx.Node, value: Any) -> list[Any]:
    """As `refuse_others` for whatever an argument holds beside tensors, and for how much it holds.

    Returns:
        What it holds and cannot be compared so.
    """
    graph = node.graph
    if isinstance(value, (Mapping, list, tuple)):
        count = graph.call_function(len, (node,))
        equal = graph.call_function(operator.eq, (count, len(value)))
        text = f"the graph was captured for {len(value)} values in {node.name}"
        graph.call_function(torch._assert, (equal, text))
    others: list[Any] = []
    for read, item in _parts_of(node, value):
        if not isinstance(item, torch.Tensor):
            others += refuse_other_parts(read(), item)
    is_leaf = not isinstance(value, (Mapping, list, tuple)) and parts(value) is None
    if is_leaf and not isinstance(value, torch.Tensor):
        refuse_others(node, value)
        others += [] if value is None or type(value) in _NUMBERS else [value]
    return others


def _parts_of(node: fx.Node, value: Any) -> Iterator[tuple[Callable[[], fx.Node], Any]]:
    """What makes a node that reads a part of a value, and that part, for each of them."""
    graph = node.graph
    if isinstance(value, (torch.Tensor, fx.Node)):
        return
    if isinstance(value, (Mapping, list, tuple)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield partial(graph.call_function, operator.getitem, (node, key)), item
    else:
        for name, item in (parts(value) or {}).items():
            yield partial(graph.call_function, getattr, (node, name)), item


def unpack(node: fx.Node, value: Any, found: Callable[[Any, fx.Node], None]) -> None:
    """Read the tensors of an argument from where they are in it, and tell them with their nodes.

    Args:
        node: reads the argument.
        value: the argument, with tensors or nodes as its leaves.
        found: told each of them, and the node that reads it.
    """
    if isinstance(value, (torch.Tensor, fx.Node)):
        found(value, node)
    for read, item in _parts_of(node, value):
        leaves = pytree.tree_leaves(plain(item))
        if any(isinstance(leaf, (torch.Tensor, fx.Node)) for leaf in leaves):
            unpack(read(), item, found)


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
    held = value if isinstance(value, Mapping) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and held is None:
        held = parts(value)
    if held is None:
        return node_of(value)
    items = {key: packed(graph, item, node_of, made) for key, item in held.items()}
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
