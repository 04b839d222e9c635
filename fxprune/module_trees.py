"""Copies of a module tree that share everything but their tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import fx, nn

M = TypeVar("M", bound=nn.Module)
Convert = Callable[[torch.Tensor], torch.Tensor]


def clone_tree(root: M, convert: Convert) -> M:
    """A copy of a module tree in which every tensor is `convert(tensor)`.

    Module objects are new, hook tables are copied, all other attributes are shared. Each tensor is
    converted once, so what was tied stays tied; a module that occurs twice is copied once.
    """
    tensors: dict[int, torch.Tensor] = {}
    modules: dict[int, nn.Module] = {}

    def tensor(value: torch.Tensor) -> torch.Tensor:
        if id(value) not in tensors:
            tensors[id(value)] = convert(value)
        return tensors[id(value)]

    def attribute(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return tensor(value)
        if type(value) in (list, tuple) and any(isinstance(v, torch.Tensor) for v in value):
            return type(value)(attribute(v) for v in value)
        if isinstance(value, dict) and type(value) is not dict and not value:
            return type(value)()
        return dict(value) if type(value) is dict else value

    def clone(module: nn.Module) -> nn.Module:
        if id(module) in modules:
            return modules[id(module)]
        copy: nn.Module = object.__new__(type(module))
        modules[id(module)] = copy
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers"):
                value = {k: None if v is None else tensor(v) for k, v in value.items()}
            elif name == "_modules":
                value = {k: None if v is None else clone(v) for k, v in value.items()}
            elif name.endswith("_hooks") or "_hooks_" in name:
                value = value.copy() if hasattr(value, "copy") else value
            else:
                value = attribute(value)
            object.__setattr__(copy, name, value)
        return copy

    result = clone(root)
    assert isinstance(result, type(root))
    return result


def as_parameter(new: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`new` as a Parameter with the same `requires_grad` if `like` is one."""
    if isinstance(like, nn.Parameter):
        return nn.Parameter(new, requires_grad=like.requires_grad)
    return new


def to_meta(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape, dtype and strides without data."""
    return as_parameter(torch.empty_like(tensor, device="meta", requires_grad=False), tensor)


def named_state(graph_module: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Every tensor that a graph can read: parameters, buffers, and tensors kept as attributes.

    A tied tensor appears under each of its names.
    """
    state: dict[str, torch.Tensor] = dict(graph_module.named_parameters(remove_duplicate=False))
    state.update(graph_module.named_buffers(remove_duplicate=False))
    for node in graph_module.graph.nodes:
        if node.op == "get_attr" and node.target not in state:
            value = attribute_at(graph_module, node.target)
            if isinstance(value, torch.Tensor):
                state[node.target] = value
    return state


def attribute_at(root: nn.Module, path: str) -> Any:
    """The attribute at a dotted path."""
    value: Any = root
    for part in path.split("."):
        value = getattr(value, part)
    return value
