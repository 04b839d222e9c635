"""Calls of models as functions of tensors, which is what an ONNX file is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fxprune.emission import report_of
from fxprune.errors import InputError, in_one_line, shown
from fxprune.input_sets import negative
from fxprune.inputs import arguments_of_call, given_arguments, materialize
from fxprune.module_trees import eval_clone, named_tensors
from fxprune.onnx.origin import Origin, origin_of
from fxprune.onnx.runtime import quiet
from fxprune.suggestions import nearest
from fxprune.values import copied, mapped, plain, tensors

Dynamic: TypeAlias = Mapping[int, str] | Mapping[str, Mapping[int, str]]
Sizes: TypeAlias = tuple[Mapping[int, str], ...]
"""For each input the names of its open sizes, by dim."""


@dataclass(frozen=True)
class Call:
    """A call of a model, in eval mode, as a function of its input tensors.

    Attributes:
        model: a copy of the model, with the same tensors.
        names: forward's argument that each tensor is in, with its place in there if it holds more.
        leaves: all leaves of the arguments.
        spec: how they make `(args, kwargs)`.
        origin: the ONNX file that the model was loaded from.
    """

    model: nn.Module
    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    spec: pytree.TreeSpec
    origin: Origin | None = None

    @classmethod
    def of(cls, model: nn.Module, example_inputs: Any = None) -> Call:
        """The call of a model on example inputs, by default on random ones as its report tells.

        Raises:
            InputError: there are none, or they do not fit.
        """
        given = _named_inputs(model, example_inputs)
        names = {
            id(leaf): name if leaf is value else f"{name}_{place}"
            for name, value in given.items()
            for place, leaf in enumerate(pytree.tree_leaves(value))
            if isinstance(leaf, Tensor)
        }
        clone = eval_clone(model, lambda tensor: tensor)
        leaves, spec = pytree.tree_flatten(arguments_of_call(clone, given))
        order = tuple(names[id(leaf)] for leaf in leaves if isinstance(leaf, Tensor))
        origin = origin_of(model)
        if origin is not None:
            if len(origin.inputs) != len(order):
                raise InputError(
                    f"{len(order)} example inputs for a network of {len(origin.inputs)} inputs",
                    why=f"it was loaded from an ONNX file with the inputs {list(origin.inputs)}",
                    hint="pass a tensor for each",
                )
            order = origin.inputs
        return cls(clone, order, tuple(leaves), spec, origin)

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The tensors among the arguments."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    def replaced(self, values: Sequence[Tensor]) -> Call:
        """The call with other tensors."""
        given = iter(values)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return replace(self, leaves=tuple(leaves))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the model."""
        args, kwargs = pytree.tree_unflatten(list(self.leaves), self.spec)
        return args, kwargs

    def result(self) -> Any:
        """What the model returns.

        Raises:
            InputError: it does not run.
        """
        args, kwargs = self.replaced([value.clone() for value in self.values]).arguments()
        try:
            with torch.no_grad(), quiet():
                return self.model(*args, **kwargs)
        except Exception as error:
            raise InputError(
                "the model does not run on inputs of shapes"
                f" {[tuple(value.shape) for value in self.values]}",
                why=in_one_line(error),
                hint="pass example_inputs that it takes, and in dynamic= only what may change",
            ) from error

    def open_sizes(self, dynamic: Dynamic | None) -> Sizes:
        """The names of the open sizes of each input: as given, or the origin's and the batch.

        Raises:
            InputError: an input or a dim is not known, or it is not plain what the batch is.
        """
        if dynamic is None:
            return self._usual_sizes()
        if not isinstance(dynamic, Mapping):
            raise InputError(f"dynamic={shown(dynamic)} is no dict", hint='pass {0: "batch"}')
        own = {key: dims for key, dims in dynamic.items() if isinstance(dims, Mapping)}
        if unknown := [name for name in own if name not in self.names]:
            hint = nearest(str(unknown[0]), self.names)
            raise InputError(f"there is no input {shown(unknown[0])}", hint=hint)
        everywhere = {dim: name for dim, name in dynamic.items() if dim not in own}
        sizes = tuple({**everywhere, **own.get(name, {})} for name in self.names)
        for name, value, dims in zip(self.names, self.values, sizes, strict=True):
            _check_dims(name, value, dims)
        return sizes

    def _usual_sizes(self) -> Sizes:
        known = self.origin.dynamic if self.origin else {}
        found = [dict(known.get(name, {})) for name in self.names]
        if any(0 in dims for dims in found):
            return tuple(found)
        shapes = [tuple(value.shape) for value in self.values]
        if len({shape[:1] for shape in shapes if shape}) > 1:
            raise InputError(
                "it is not plain which size is the batch",
                why=f"the inputs have the shapes {shapes}",
                hint='pass dynamic={input: {dim: "batch"}}, or dynamic={} to leave none open',
            )
        batch = [{0: "batch"} if shape else {} for shape in shapes]
        return tuple({**first, **dims} for first, dims in zip(batch, found, strict=True))

    def grown(self, sizes: Sizes, chosen: Callable[[int], bool]) -> Call:
        """The call with larger open sizes along the dims that are chosen.

        A batch of n becomes 2 n + 1, which divides by nothing that n divides by; other sizes 2 n,
        because networks halve them.
        """
        values = []
        for value, dims in zip(self.values, sizes, strict=True):
            for dim in filter(chosen, dims):
                more = [value.narrow(dim, 0, 1)] if dim == 0 else []
                value = torch.cat([value, value, *more], dim)  # noqa: PLW2901 - dim after dim
            values.append(value)
        return self.replaced(values)

    def variants(self, sizes: Sizes) -> Iterator[tuple[str, Call]]:
        """What a file is run on, in words and as a call: the example, negative, and larger."""
        yield "the example", self
        if any(value.is_floating_point() for value in self.values):
            yield "negative inputs", self.replaced(negative(self.values))
        if any(0 in dims for dims in sizes):
            yield "another batch", self.grown(sizes, lambda dim: dim == 0)
        if any(dim for dims in sizes for dim in dims):
            yield "larger inputs", self.grown(sizes, lambda dim: dim != 0)


class Flat(nn.Module):
    """A call as a module that takes and returns tensors and nothing else, for the exporter."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.model = call.model
        self._call = call

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """All tensors that the model returns, in their order."""
        args, kwargs = self._call.replaced(values).arguments()
        return tuple(tensors(self.model(*args, **kwargs)))


def output_names(result: Any, origin: Origin | None) -> tuple[str, ...]:
    """The names of the tensors in a result: those of the origin, else their keys."""
    if origin is not None and len(origin.outputs) == len(tensors(result)):
        return origin.outputs
    if isinstance(result, Tensor):
        return ("output",)
    paths, _ = pytree.tree_flatten_with_path(plain(result))
    names = [
        "_".join(str(getattr(key, "key", getattr(key, "idx", ""))) for key in path)
        for path, leaf in paths
        if isinstance(leaf, Tensor)
    ]
    return tuple(f"output_{name}" if name[:1].isdigit() else name for name in names)


def _named_inputs(model: nn.Module, example_inputs: Any) -> dict[str, Any]:
    """Example inputs by argument name, each tensor an object of its own."""
    if example_inputs is not None:
        given = given_arguments(model, example_inputs)
        return {name: copied(value) for name, value in given.items()}
    specs: Mapping[str, Any] = getattr(report_of(model).get("fxprune"), "inputs", {})
    origin = origin_of(model)
    if not specs and origin is not None:
        specs = dict(zip(inspect.signature(model.forward).parameters, origin.specs, strict=True))
    if not specs:
        raise InputError(
            "example inputs are missing",
            why='the model has no report with their shapes in meta["fxprune"]',
            hint="pass example_inputs",
        )
    device = next((t.device for t in named_tensors(model).values()), torch.device("cpu"))
    values = materialize(tuple(specs.values()), seed=0)
    moved = mapped(lambda tensor: tensor.to(device), values)
    return dict(zip(specs, moved, strict=True))


def _check_dims(name: str, value: Tensor, dims: Mapping[Any, Any]) -> None:
    for dim, size in dims.items():
        if not (isinstance(dim, int) and isinstance(size, str) and size.isidentifier()):
            raise InputError(
                f"dynamic has {shown(dim)}: {shown(size)} for input {name!r}",
                hint='pass a dim and a name, such as {0: "batch"}',
            )
        if not 0 <= dim < value.dim():
            raise InputError(
                f"input {name!r} of shape {tuple(value.shape)} has no dim {dim}",
                hint="name the inputs that have it: dynamic={input: {dim: name}}",
            )
