"""What it takes to make a shrunk model again, of another instance of the original."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from fxprune.known_values import LARGEST_KNOWN
from fxprune.module_trees import PLAIN, named_tensors, walk

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.planning import Plan

_PASSING = re.compile(r"device\(type='\w+'(, index=\d+)?\)| at 0x[0-9a-f]+")
"""What differs from process to process in the texts of modules."""


@dataclass(frozen=True)
class Outline:
    """A model but for the values of its tensors.

    Attributes:
        shapes: of all tensors by name; a tied one has several names.
        tied: further names of tensors -> the first one.
        modules: path -> digest of a module's class and settings, or of a graph.
    """

    shapes: Mapping[str, tuple[int, ...]]
    tied: Mapping[str, str]
    modules: Mapping[str, str]

    @classmethod
    def of(cls, model: nn.Module, state: Mapping[str, torch.Tensor]) -> Outline:
        """The outline of a model with these tensors."""
        return cls(
            shapes={name: tuple(tensor.shape) for name, tensor in state.items()},
            tied=tied_names(state),
            modules={path: _digest(module) for path, module in walk(model)},
        )

    def unlike(self, other: Outline, here: str, there: str, *, strict: bool = True) -> list[str]:
        """What differs from another outline, a phrase each.

        Args:
            other: the other one.
            here: how this one is called.
            there: how the other one is called.
            strict: whether modules and graph count.
        """
        mine, theirs = self.shapes, other.shapes
        found = [f"{n} is in {there} only" for n in theirs if n not in mine]
        found += [f"{n} is in {here} only" for n in mine if n not in theirs]
        found += [
            f"{n} has shape {list(mine[n])} in {here}, {list(theirs[n])} in {there}"
            for n in mine
            if n in theirs and mine[n] != theirs[n]
        ]
        for names, tied, where in ((other.tied, self.tied, there), (self.tied, other.tied, here)):
            found += [
                f"{name} and {first} are one tensor in {where} only"
                for name, first in names.items()
                if tied.get(name) != first and name in mine and name in theirs
            ]
        if strict:
            paths = dict.fromkeys((*self.modules, *other.modules))
            found += [
                f"{f'module {path}' if path else 'the graph, or the outermost module,'} is another"
                for path in paths
                if self.modules.get(path) != other.modules.get(path)
            ]
        return found


@dataclass(frozen=True)
class Recipe:
    """What it takes to make a shrunk model again.

    Attributes:
        plan: what was removed.
        training: the modules of the original that were in training mode when it was captured.
        integers: the tensors of the original by which channels are looked up.
        outline: the result but for its values.
    """

    plan: Plan
    training: tuple[str, ...]
    integers: Mapping[str, torch.Tensor]
    outline: Outline

    @classmethod
    def of(cls, deps: DependencyGraph, plan: Plan, small: nn.Module) -> Recipe:
        """The recipe of what was made of an analyzed model by a plan."""
        modes = deps.captured.modes
        return cls(
            plan=plan,
            training=tuple(name for name, training in modes.items() if training),
            integers={
                name: tensor.detach().clone()
                for name, tensor in deps.state.items()
                if deps.trace.tied.get(name) in deps.trace.touched
                and not (tensor.is_floating_point() or tensor.is_complex())
                and tensor.numel() <= LARGEST_KNOWN
            },
            outline=Outline.of(small, all_tensors(small)),
        )


def all_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, buffers, and tensors that modules keep as plain attributes.

    A tied tensor appears under each of its names.
    """
    return {**named_tensors(model), **dict(_attributes(model))}


def _attributes(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in walk(model, again=True):
        for name, value in vars(module).items():
            if type(value) not in PLAIN and isinstance(value, torch.Tensor):
                yield f"{path}.{name}" if path else name, value


def tied_names(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Further names of tensors, each with the first name of the same tensor by the alphabet."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(state[name]), name) for name in sorted(state)}
    return {name: known for name, known in names.items() if name != known}


def _digest(module: nn.Module) -> str:
    """What tells a graph, or a class and its settings if it is of torch.

    Of classes of users the name counts: their files may have any, and what they tell of themselves
    may change with their weights.
    """
    kind = type(module)
    if isinstance(module, fx.GraphModule):
        text = "\n".join(map(_line, module.graph.nodes))
    else:
        settings = module.extra_repr() if kind.__module__.startswith("torch.") else ""
        text = f"{kind.__name__}({settings})"
    return hashlib.sha256(_PASSING.sub("", text).encode()).hexdigest()[:16]


def _line(node: fx.Node) -> str:
    """What a node does, in a line."""
    target: Any = node.target
    if not isinstance(target, (str, torch._ops.OpOverload)):
        home = str(getattr(target, "__module__", ""))
        of_torch = home if home.partition(".")[0] in ("torch", "_operator") else ""
        target = f"{of_torch}:{getattr(target, '__qualname__', type(target).__name__)}"
    return f"{node.op} {node.name} {target} {node.args} {node.kwargs}"
