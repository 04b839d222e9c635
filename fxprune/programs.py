"""A shrunk graph as an `ExportedProgram` with the dynamic sizes of the original's."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.utils import _pytree as pytree

from fxprune.differences import alike, difference
from fxprune.errors import RewriteError, VerificationError, in_one_line
from fxprune.exporting import program_module, quiet
from fxprune.inputs import arguments_of_call, given_arguments
from fxprune.reconstruction.noted import note_repaired, repaired_of
from fxprune.stepping import seed
from fxprune.values import copied, tensors

_ROUNDING = 1e-6
_FEWEST = 2
"""Sizes of 0 and 1 are special for export, so these are no limits of a dynamic dim."""


def as_program(small: fx.GraphModule, original: ExportedProgram) -> ExportedProgram:
    """Export a shrunk graph as the original was exported.

    Inputs and outputs have the same structure, inputs the same names, and every size that is
    dynamic in the original is dynamic in the result, within the same limits.

    Args:
        small: what became of `program_module(original)`; it is not changed.
        original: the original.

    Raises:
        RewriteError: export fails, or would fix a size that is to be dynamic.
    """
    args, kwargs = _example(original)
    shapes = ShapesCollection()
    leaves = pytree.tree_leaves((args, kwargs))
    for value, dims in zip(leaves, _dynamic(original), strict=True):
        if dims:
            shapes[value] = dims
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(
                small, args, kwargs, dynamic_shapes=shapes.dynamic_shapes(small, args, kwargs)
            )
    except Exception as error:
        raise RewriteError(
            "the shrunk graph cannot be exported as the original was",
            why=in_one_line(error),
            hint="shrink the model itself, and export the result with torch.export",
        ) from error
    _check_alike(program, original)
    program.graph_module.meta["fxprune"] = small.meta.get("fxprune")
    return program


def export_module(small: nn.Module, example_inputs: Any) -> ExportedProgram:
    """Export a shrunk model; the batch (dim 0 of the inputs) is dynamic where the model allows it.

    Args:
        small: the model, which is not changed.
        example_inputs: a tensor, a tuple or a dict.

    Raises:
        RewriteError: export fails.
        VerificationError: the program computes something else.
    """
    args, kwargs = arguments_of_call(small, given_arguments(small, example_inputs))
    bound = inspect.signature(small.forward).bind(*args, **kwargs)  # by place where that can be
    values = (bound.args, bound.kwargs)
    given = pytree.tree_leaves(values)
    batches = {v.shape[0] for v in given if isinstance(v, torch.Tensor) and v.dim()}

    def program(values: Any, dim: Any) -> ExportedProgram:
        own_args, own_kwargs = copied(values)
        shapes = ShapesCollection()
        for value in pytree.tree_leaves((own_args, own_kwargs)):
            if dim is not None and isinstance(value, torch.Tensor) and value.dim():
                shapes[value] = {0: dim}
        dynamic = shapes.dynamic_shapes(small, own_args, own_kwargs)
        with quiet(), torch.no_grad():
            return torch.export.export(small, own_args, own_kwargs, dynamic_shapes=dynamic)

    def at_least_two(value: Any) -> Any:
        """A size of one would be taken for a constant."""
        is_one = isinstance(value, torch.Tensor) and value.dim() and batches == {1}
        return torch.cat([value, value]) if is_one else value

    try:
        made = program(pytree.tree_map(at_least_two, values), Dim.AUTO)
    except Exception:  # noqa: BLE001  # whatever the reason, the fixed batch is tried next
        try:
            made = program(values, None)
        except Exception as error:
            raise RewriteError(
                "the shrunk model cannot be exported",
                why=in_one_line(error),
                hint="write it to another file than .pt2",
            ) from error
    check_program(made, small, given)
    note_repaired(made.graph_module, repaired_of(small))
    return made


def check_program(program: ExportedProgram, small: nn.Module, values: Sequence[Any]) -> None:
    """Compare a program with the graph that it was exported from, on its inputs in order.

    Raises:
        VerificationError: outputs differ.
    """
    module = program_module(program)
    results = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for each in (small, module):
            args, kwargs = pytree.tree_unflatten(copied(list(values)), program.call_spec.in_spec)
            seed()
            results.append(each(*args, **kwargs))
    pairs = zip(*map(tensors, results), strict=True) if alike(*results) else None
    if pairs is None or any(
        a.shape != b.shape or difference(a, b)[1] > _ROUNDING for a, b in pairs
    ):
        raise VerificationError(
            "the exported program does not compute what the shrunk graph computes",
            why="torch.export made something else of the graph",
            hint="shrink the model itself, and export the result with torch.export",
        )


def _user_inputs(program: ExportedProgram) -> list[fx.Node]:
    names = set(program.graph_signature.user_inputs)
    return [n for n in program.graph.find_nodes(op="placeholder") if n.name in names]


def _example(program: ExportedProgram) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments that the program holds for, each tensor an object of its own."""
    given = program.example_inputs
    if given is None:
        leaves = [_sized(node.meta.get("val")) for node in _user_inputs(program)]
    else:
        leaves = pytree.tree_leaves(given)
    own = [v.detach().clone() if isinstance(v, torch.Tensor) else v for v in leaves]
    args, kwargs = pytree.tree_unflatten(own, program.call_spec.in_spec)
    return tuple(args), dict(kwargs)


def _sized(value: Any) -> Any:
    """A tensor of the sizes at which a program was traced; other values as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    sizes: Sequence[Any] = value.shape
    shape = [n if isinstance(n, int) else n.node.hint for n in sizes]
    return torch.zeros(shape, dtype=value.dtype, device=value.device)


def _dynamic(program: ExportedProgram) -> Iterator[dict[int, Any]]:
    """For each input the dims that are dynamic, with their limits."""
    for node in _user_inputs(program):
        value = node.meta.get("val")
        shape: Sequence[Any] = value.shape if isinstance(value, torch.Tensor) else ()
        yield {
            dim: Dim.AUTO(**_limits(program, size))
            for dim, size in enumerate(shape)
            if not (isinstance(size, int) or size.node.expr.is_number)  # a symbol may be settled
        }


def _limits(program: ExportedProgram, size: Any) -> dict[str, int]:
    """What is known of a dynamic size."""
    limits = program.range_constraints.get(size.node.expr)
    found = {}
    if limits is not None and limits.lower > _FEWEST:
        found["min"] = int(limits.lower)
    if limits is not None and limits.upper.is_finite and limits.upper < sys.maxsize - 1:
        found["max"] = int(limits.upper)
    return found


def _check_alike(program: ExportedProgram, original: ExportedProgram) -> None:
    """Names, structure and dynamic sizes are the original's.

    Raises:
        RewriteError: they are not.
    """
    theirs, ours = _user_inputs(original), _user_inputs(program)
    names = [[node.name for node in nodes] for nodes in (theirs, ours)]
    differing = [] if names[0] == names[1] else [f"inputs are {names[1]} instead of {names[0]}"]
    if program.call_spec != original.call_spec:
        differing.append("inputs or outputs have another structure")
    for node, before, now in zip(ours, _dynamic(original), _dynamic(program), strict=False):
        fixed = [dim for dim in before if dim not in now]
        differing += [
            f"dim {d} of {node.name} is fixed at {node.meta['val'].shape[d]}" for d in fixed
        ]
    if differing:
        raise RewriteError(
            "the shrunk program is not called as the original",
            why="; ".join(differing),
            hint="shrink the model itself, and export the result with torch.export",
        )
