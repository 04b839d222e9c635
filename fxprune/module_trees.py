"""Copies of a module tree that share everything but their tensors."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType, MethodType
from typing import Any, TypeVar

import torch
from torch import fx, nn

M = TypeVar("M", bound=nn.Module)
PLAIN = frozenset({bool, int, float, str, type(None), type, torch.dtype, torch.device})
"""Types of attributes that hold nothing that could be copied."""
_TABLES = frozenset({dict, OrderedDict, set})
Convert = Callable[[torch.Tensor], torch.Tensor]


def clone_tree(
    root: M, convert: Convert, instead: Mapping[int, nn.Module] = MappingProxyType({})
) -> M:
    """A copy of a module tree in which every tensor is `convert(tensor)`.

    Module objects are new, hook tables are copied, methods kept as attributes are those of the
    copy, all other attributes are shared. Each tensor is converted once, so what was tied stays
    tied; a module that occurs twice is copied once. A module whose id is in `instead` is not
    copied: wherever the tree refers to it, the copy refers to what is there.
    """
    members = {id(module) for _, module in walk(root)}
    copy = _Cloner(convert, members, instead).module(root)
    assert isinstance(copy, type(root))
    return copy


def eval_clone(module: Any, convert: Convert) -> Any:
    """As `clone_tree`, with all modules in eval mode."""
    clone = clone_tree(module, convert)
    for child in clone.modules():
        child.training = False
    return clone


def replace_tensors(root: nn.Module, convert: Convert) -> None:
    """Let every tensor that a module tree holds be `convert(tensor)`, wherever `clone_tree` looks.

    Modules stay the same objects; their tables, lists and sets are rebuilt. Each tensor is
    converted once.
    """
    members = {id(module): module for module in root.modules()}
    cloner = _Cloner(convert, set(members), members)
    for module in members.values():
        for name, value in list(vars(module).items()):
            vars(module)[name] = value if type(value) in PLAIN else cloner.attribute(value)


def walk(root: nn.Module, *, again: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """What `root.named_modules()` yields, without a generator in a generator for every level.

    Args:
        root: the outermost module.
        again: whether a module that occurs twice is yielded twice (`remove_duplicate=False`).
    """
    seen: set[int] = set()
    pending = [("", root)]
    while pending:
        path, module = pending.pop()
        if not again:
            if id(module) in seen:
                continue
            seen.add(id(module))
        yield path, module
        prefix = f"{path}." if path else ""
        children = [
            (prefix + n, child) for n, child in module._modules.items() if child is not None
        ]
        pending += reversed(children)


def parameters_in(root: nn.Module) -> dict[str, torch.Tensor]:
    """What `root.named_parameters()` yields: each once, by its first name."""
    return _once(root, "_parameters")


def buffers_in(root: nn.Module) -> dict[str, torch.Tensor]:
    """What `root.named_buffers()` yields: each once, by its first name."""
    return _once(root, "_buffers")


def _once(root: nn.Module, table: str) -> dict[str, torch.Tensor]:
    first: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in _in_tables(root, table):
        first.setdefault(id(tensor), (name, tensor))
    return dict(first.values())


def _in_tables(root: nn.Module, table: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in a table of each module, under each of their names."""
    for path, module in walk(root, again=True):
        for name, tensor in getattr(module, table).items():
            if tensor is not None:
                yield f"{path}.{name}" if path else name, tensor


class _Cloner:
    """Copies modules, and remembers what it has copied."""

    def __init__(
        self, convert: Convert, members: set[int], instead: Mapping[int, nn.Module]
    ) -> None:
        self.convert = convert
        self.members = members
        self.tensors: dict[int, torch.Tensor] = {}
        self.modules: dict[int, nn.Module] = dict(instead)
        self.containers: dict[int, Any] = {}

    def tensor(self, value: torch.Tensor) -> torch.Tensor:
        if id(value) not in self.tensors:
            self.tensors[id(value)] = self.convert(value)
        return self.tensors[id(value)]

    def module(self, module: nn.Module) -> nn.Module:
        if id(module) not in self.modules:
            copy: nn.Module = object.__new__(type(module))
            self.modules[id(module)] = copy
            attributes = dict(vars(module))
            for name, value in attributes.items():
                kind = type(value)
                if kind in _TABLES and not value:  # most of what a module has
                    attributes[name] = self.containers.setdefault(id(value), kind())
                elif kind not in PLAIN:
                    attributes[name] = self.attribute(value)
            object.__setattr__(copy, "__dict__", attributes)
        return self.modules[id(module)]

    def attribute(self, value: Any) -> Any:
        """Tables (parameters, submodules, hooks), lists and sets are rebuilt, each once."""
        if isinstance(value, dict):
            return self.table(value)
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, nn.Module):
            return self.module(value)
        if isinstance(value, MethodType):
            owner = value.__self__
            if isinstance(owner, nn.Module) and id(owner) in self.members:
                return MethodType(value.__func__, self.module(owner))
        if type(value) is partial:
            args, keywords = self.attribute(value.args), self.attribute(value.keywords)
            return partial(self.attribute(value.func), *args, **keywords)
        if type(value) is tuple:
            return tuple(v if type(v) in PLAIN else self.attribute(v) for v in value)
        if type(value) in (list, set):
            if id(value) not in self.containers:
                copy = self.containers[id(value)] = type(value)()
                items = (v if type(v) in PLAIN else self.attribute(v) for v in value)
                copy.extend(items) if type(value) is list else copy.update(items)
            return self.containers[id(value)]
        return value

    def table(self, value: dict[Any, Any]) -> dict[Any, Any]:
        if id(value) not in self.containers:
            copy = self.containers[id(value)] = value.copy()
            for key, item in value.items():
                if type(item) not in PLAIN:
                    copy[key] = self.attribute(item)
        table: dict[Any, Any] = self.containers[id(value)]
        return table


def restore_root(graph_module: fx.GraphModule, original: nn.Module) -> None:
    """Give a new GraphModule what its constructor does not take over from the original.

    These are the hooks of the root, and the train / eval flags and the persistence of buffers of
    modules that only hold others.
    """
    for name, value in vars(original).items():
        if "_hooks" in name and name in vars(graph_module):
            copy = value.copy()
            if isinstance(copy, dict):
                for key in [key for key, hook in copy.items() if _is_of_export(hook)]:
                    del copy[key]
            setattr(graph_module, name, copy)
    for name, module in walk(graph_module):
        if not name or type(module) is nn.Module:
            source = original.get_submodule(name)
            module.training = source.training
            passing = source._non_persistent_buffers_set & module._buffers.keys()
            module._non_persistent_buffers_set |= passing


def _is_of_export(hook: Any) -> bool:
    """Hooks of `torch.export` check inputs, with attributes that a plain GraphModule has not."""
    return str(getattr(hook, "__module__", "")).startswith("torch.export")


def as_parameter(new: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`new` as a Parameter with the same `requires_grad` if `like` is one."""
    if isinstance(like, nn.Parameter):
        return nn.Parameter(new, requires_grad=like.requires_grad)
    return new


def own_object(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor object to put labels on: parameters share their data, for forward writes to none."""
    own = tensor.detach()
    return as_parameter(own if isinstance(tensor, nn.Parameter) else own.clone(), tensor)


def to_meta(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape, dtype and strides without data."""
    return as_parameter(torch.empty_like(tensor, device="meta", requires_grad=False), tensor)


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers; a tied tensor appears under each of its names."""
    return {**dict(_in_tables(module, "_parameters")), **dict(_in_tables(module, "_buffers"))}


def fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """What tells tensors and their values: SHA-256, in hexadecimal; without those on meta."""
    found = hashlib.sha256()
    for name, tensor in state.items():
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        if tensor.device.type != "meta":
            values = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
            found.update(values.view(torch.uint8).numpy().data)
    return found.hexdigest()


def named_state(graph_module: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Every tensor that a graph can read: parameters, buffers, and tensors kept as attributes.

    A tied tensor appears under each of its names.
    """
    state = named_tensors(graph_module)
    for node in graph_module.graph.nodes:
        if node.op == "get_attr" and node.target not in state:
            value = attribute_at(graph_module, node.target)
            if isinstance(value, torch.Tensor):
                state[node.target] = value
    return state


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path, as `root.get_submodule(path)`, which checks each step."""
    module: nn.Module | None = root
    for part in path.split("."):
        module = module._modules.get(part) if module is not None else None
    return root.get_submodule(path) if module is None else module  # which tells what is not there


def attribute_at(root: nn.Module, path: str) -> Any:
    """The attribute at a dotted path."""
    value: Any = root
    for part in path.split("."):
        value = getattr(value, part)
    return value


def tensor_at(model: nn.Module, name: str) -> torch.Tensor | None:
    """The tensor of that name in a model, if there is one."""
    try:
        value = attribute_at(model, name)
    except AttributeError:
        return None
    return value if isinstance(value, torch.Tensor) else None
