"""Example inputs: accepted forms, binding to a graph's placeholders, and their description."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.fx
from torch.utils import _pytree as pytree

from fxprune.errors import InputError, first_line, shown
from fxprune.model_checks import unfitness
from fxprune.values import mapped, tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


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
    targets = [str(node.target) for node in placeholders]
    names = [target.lstrip("*") for target in targets]
    rest = next((t[1:] for t in targets if t.startswith("*") and not t.startswith("**")), None)
    if example_inputs is None:
        raise InputError(
            "example inputs are missing",
            why="shapes are found by interpreting the model on inputs of their shape",
            hint=f"pass example_inputs for the arguments {names}",
        )
    given = _by_name(example_inputs, names, rest)
    for name, value in given.items():
        _check_tensors(name, value)
    if unknown := [name for name in given if name not in names]:
        raise InputError(f"unknown arguments {shown(unknown)}", why=f"the model takes {names}")
    return tuple(
        given[name] if name in given else _default(node, names)
        for node, name in zip(placeholders, names, strict=True)
    )


def named_values(graph_module: torch.fx.GraphModule, values: Sequence[Any]) -> dict[str, Any]:
    """The values of a graph's placeholders by the names of forward's arguments."""
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    names = [str(node.target).lstrip("*") for node in placeholders]
    return dict(zip(names, values, strict=True))


def given_arguments(model: nn.Module, example_inputs: Any) -> dict[str, Any]:
    """Example inputs by the names of forward's arguments."""
    if example_inputs is None:
        return {}
    parameters = inspect.signature(model.forward).parameters
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    rest = next((n for n, kind in kinds.items() if kind is inspect.Parameter.VAR_POSITIONAL), None)
    given = _by_name(example_inputs, list(parameters), rest)
    for name, value in given.items():
        _check_tensors(name, value)
    return given


def absent_arguments(model: nn.Module, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a model that are left at a default that is not a tensor."""
    parameters = inspect.signature(model.forward).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if isinstance(parameter.default, (bool, int, float, str, type(None)))
        and (name not in given or given[name] is parameter.default)
    }


def call_arguments(
    graph_module: torch.fx.GraphModule, model: nn.Module, values: Sequence[Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a real call, from the values of a graph's placeholders.

    Args:
        graph_module: the graph that the values were bound to.
        model: what is to be called: the graph module, or the model that it was captured from.
        values: one for each placeholder.
    """
    codegen = graph_module.graph._codegen
    if isinstance(codegen, torch.fx.graph._PyTreeCodeGen):
        args, kwargs = pytree.tree_unflatten(list(values), codegen.pytree_info.in_spec)
        return list(args), dict(kwargs)
    args, kwargs = [], {}
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    by_place = list(parameters)[: _positional(model)]
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    starred = [str(node.target)[0] == "*" != str(node.target)[1] for node in placeholders]
    for k, (node, value) in enumerate(zip(placeholders, values, strict=True)):
        name = str(node.target)
        follows = any(starred[k:]) or name in by_place  # *args follows: no keywords before it
        parameter = parameters.get(name.lstrip("*"))
        if name.startswith("**"):
            kwargs.update(value)
        elif name.startswith("*"):
            args.extend(value)
        elif parameter is None and takes_any:
            kwargs[name] = value
        elif parameter is None or parameter.kind is parameter.POSITIONAL_ONLY or follows:
            args.append(value)
        elif value is not parameter.default:  # decorators may take a default for a choice
            kwargs[name] = value
    return args, kwargs


def is_exported(model: nn.Module) -> bool:
    """Whether a model is the graph of an exported program, which takes and returns structures."""
    return isinstance(_codegen(model), torch.fx.graph._PyTreeCodeGen)


def _positional(model: nn.Module) -> int:
    """How many arguments an exported graph takes by their places, and not otherwise."""
    if not is_exported(model):
        return 0
    spec = _codegen(model).pytree_info.in_spec
    args, _ = pytree.tree_unflatten([None] * spec.num_leaves, spec)
    return len(args)


def _codegen(model: Any) -> Any:
    return model.graph._codegen if isinstance(model, torch.fx.GraphModule) else None


def arguments_of_call(
    model: nn.Module, given: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call of a model, from those by name (see `given_arguments`)."""
    args: list[Any] = []
    kwargs = dict(given)
    parameters = list(inspect.signature(model.forward).parameters.values())
    rest = next((k for k, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL), None)
    first = rest if rest is not None and parameters[rest].name in given else 0
    for k, parameter in enumerate(parameters):
        if parameter.name not in kwargs:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.extend(kwargs.pop(parameter.name))
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs.update(kwargs.pop(parameter.name))
        elif parameter.kind is parameter.POSITIONAL_ONLY or k < first:
            args.append(kwargs.pop(parameter.name))
    return args, kwargs


def _check_tensors(name: str, value: Any) -> None:
    for tensor in tensors(value):
        if unfit := unfitness(tensor):
            raise InputError(f"example input {name} is {unfit}", hint="pass plain dense tensors")
        if not tensor.numel():
            raise InputError(
                f"example input {name} of shape {tuple(tensor.shape)} has no elements",
                hint="pass an input that the model computes something of",
            )


def _by_name(example_inputs: Any, names: Sequence[str], rest: str | None) -> dict[str, Any]:
    """Example inputs by argument name; `rest` is the argument that takes all that follow."""
    if isinstance(example_inputs, torch.Tensor):
        example_inputs = (example_inputs,)
    if isinstance(example_inputs, Mapping):  # of tokenizers, too
        return dict(example_inputs)
    if not isinstance(example_inputs, (tuple, list)):
        raise InputError(
            f"example_inputs is a {type(example_inputs).__name__}",
            hint="pass a tensor, a tuple of arguments, or a dict of keyword arguments",
        )
    if rest is not None and len(example_inputs) > (first := names.index(rest)):
        leading = dict(zip(names, example_inputs[:first], strict=False))
        return {**leading, rest: tuple(example_inputs[first:])}
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


LARGEST = 1 << 28
"""How many elements random inputs have at most: a plan's file must not fill the memory."""


@dataclass(frozen=True)
class InputSpec:
    """Shape, dtype and value range of one example input; for JSON and for making new ones."""

    shape: tuple[int, ...]
    dtype: str
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        if not isinstance(vars(torch).get(self.dtype), torch.dtype):
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
        try:
            if dtype.is_floating_point or dtype.is_complex:
                return torch.randn(self.shape, generator=generator).to(dtype)
            return torch.randint(self.low, self.high, self.shape, generator=generator).to(dtype)
        except (RuntimeError, TypeError, OverflowError) as error:
            raise InputError(
                f"no input of shape {list(self.shape)} and dtype {self.dtype} can be made",
                why=first_line(error),
                hint="pass a smaller one",
            ) from error

    def empty(self) -> torch.Tensor:
        """A meta tensor of this description."""
        return torch.empty(self.shape, dtype=getattr(torch, self.dtype), device="meta")


def describe(values: Sequence[Any]) -> tuple[Any, ...]:
    """Values with every tensor replaced by its InputSpec."""
    return tuple(mapped(InputSpec.of, value) for value in values)


def real_type(specs: Sequence[Any]) -> torch.dtype | None:
    """The type of the real numbers in described inputs; None if there are none, or several."""
    types = {t.dtype for t in tensors(list(materialize(specs, seed=None))) if t.is_floating_point()}
    return types.pop() if len(types) == 1 else None


def materialize(specs: Sequence[Any], seed: int | None) -> tuple[Any, ...]:
    """Values of described inputs: random ones for a seed, meta tensors for None."""
    generator = torch.Generator().manual_seed(seed or 0)
    room = LARGEST

    def make(spec: InputSpec) -> torch.Tensor:
        nonlocal room
        if seed is None:
            return spec.empty()
        room -= math.prod(spec.shape)
        if room < 0:
            raise InputError(
                f"random inputs of shape {list(spec.shape)} would be too large",
                why=f"all together they have at most {LARGEST:,} elements",
                hint="pass example inputs",
            )
        return spec.sample(generator)

    return tuple(mapped(make, spec, kind=InputSpec) for spec in specs)
