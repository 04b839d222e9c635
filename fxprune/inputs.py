"""Example inputs: accepted forms, binding to a graph's placeholders, and their description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from fxprune.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def bind(graph_module: torch.fx.GraphModule, example_inputs: Any) -> tuple[Any, ...]:
    """One value for each placeholder of a graph.

    Args:
        graph_module: the captured model.
        example_inputs: a tensor (one argument), a tuple or list (positional arguments), or a dict
            (keyword arguments).

    Raises:
        InputError: an argument is missing, unknown or one too many.
    """
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    names = [str(node.target).lstrip("*") for node in placeholders]
    if example_inputs is None:
        raise InputError(
            "example inputs are missing",
            why="shapes are found by interpreting the model on inputs of their shape",
            hint=f"pass example_inputs for the arguments {names}",
        )
    given = _by_name(example_inputs, names)
    if unknown := sorted(set(given) - set(names)):
        raise InputError(f"unknown arguments {unknown}", why=f"the model takes {names}")
    return tuple(
        given[name] if name in given else _default(node, names)
        for node, name in zip(placeholders, names, strict=True)
    )


def _by_name(example_inputs: Any, names: Sequence[str]) -> dict[str, Any]:
    if isinstance(example_inputs, torch.Tensor):
        example_inputs = (example_inputs,)
    if isinstance(example_inputs, dict):
        return dict(example_inputs)
    if not isinstance(example_inputs, (tuple, list)):
        raise InputError(
            f"example_inputs is a {type(example_inputs).__name__}",
            hint="pass a tensor, a tuple of arguments, or a dict of keyword arguments",
        )
    if len(example_inputs) > len(names):
        raise InputError(
            f"{len(example_inputs)} example inputs for a model of {len(names)} arguments",
            why=f"its arguments are {names}",
            hint="pass a tensor for one argument, a tuple for several, a dict for keywords",
        )
    return dict(zip(names, example_inputs, strict=False))


def _default(node: torch.fx.Node, names: Sequence[str]) -> Any:
    if node.args:
        return node.args[0]
    target = str(node.target)
    if not target.startswith("*"):
        raise InputError(
            f"no example input for argument {target!r}", why=f"the model takes {names}"
        )
    return {} if target.startswith("**") else ()


@dataclass(frozen=True)
class InputSpec:
    """Shape, dtype and value range of one example input; for JSON and for making new ones."""

    shape: tuple[int, ...]
    dtype: str
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"{self.dtype!r} is not a dtype")
        if any(size < 0 for size in self.shape) or self.low >= self.high:
            raise ValueError(f"no tensor has shape {self.shape} and values {self.low}..{self.high}")

    @classmethod
    def of(cls, tensor: torch.Tensor) -> InputSpec:
        """The description of a tensor; the range matters for integers only."""
        low, high = 0, 1
        is_whole = not (tensor.is_floating_point() or tensor.is_complex())
        if is_whole and tensor.numel() and tensor.device.type != "meta":
            low, high = int(tensor.min()), int(tensor.max()) + 1
        return cls(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), low, high)

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """A random tensor of this description: normal, or uniform integers in the range."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        if dtype.is_floating_point or dtype.is_complex:
            return torch.randn(self.shape, generator=generator).to(dtype)
        return torch.randint(self.low, self.high, self.shape, generator=generator).to(dtype)

    def empty(self) -> torch.Tensor:
        """A meta tensor of this description."""
        return torch.empty(self.shape, dtype=getattr(torch, self.dtype), device="meta")


def describe(values: Sequence[Any]) -> tuple[Any, ...]:
    """Values with every tensor replaced by its InputSpec."""
    return tuple(
        pytree.tree_map(lambda v: InputSpec.of(v) if isinstance(v, torch.Tensor) else v, value)
        for value in values
    )


def materialize(specs: Sequence[Any], seed: int | None) -> tuple[Any, ...]:
    """Values of described inputs: random ones for a seed, meta tensors for None."""
    generator = torch.Generator().manual_seed(seed or 0)

    def make(value: Any) -> Any:
        if not isinstance(value, InputSpec):
            return value
        return value.empty() if seed is None else value.sample(generator)

    return tuple(
        pytree.tree_map(make, spec, is_leaf=lambda v: isinstance(v, InputSpec)) for spec in specs
    )
