"""Runs of a model without data at several sizes of its inputs: which sizes are dynamic."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import fx
from torch.utils import _pytree as pytree

from fxprune.inputs import InputSpec, materialize
from fxprune.interpretation import decomposed_attention
from fxprune.interpreter import Interpreter
from fxprune.meta_kernels import MetaMode
from fxprune.module_trees import clone_tree, to_meta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fxprune.analysis import DependencyGraph

Sample: TypeAlias = dict[str, Any]
"""The value of every node, by name, with tensors on the meta device."""
Dims: TypeAlias = frozenset[tuple[int, int]]
"""Dims of inputs, as (number of the input tensor, dim)."""


def samples(deps: DependencyGraph) -> list[Sample]:
    """The values of all nodes for the example inputs, then for all other sizes that work.

    Sizes that could belong together are doubled together: the same dim of all inputs (the batch),
    and all dims of the same size. Sizes at which the model does not run say nothing.
    """
    shadow = clone_tree(deps.graph_module, to_meta)
    found = [_run(shadow, deps.inputs)]
    for dims in _families(deps.inputs):
        try:
            found.append(_run(shadow, _doubled(deps.inputs, dims)))
        except Exception:  # noqa: BLE001  # the model's own error: it has no such size
            continue
    return found


def _run(shadow: fx.GraphModule, specs: tuple[Any, ...]) -> Sample:
    interpreter = Interpreter(shadow, garbage_collect_values=False)
    interpreter.extra_traceback = False
    with decomposed_attention(), torch.no_grad(), MetaMode():
        interpreter.run(*materialize(specs, seed=None), enable_io_processing=False)
    return {node.name: value for node, value in interpreter.env.items()}


def _shapes(specs: tuple[Any, ...]) -> list[tuple[int, ...]]:
    leaves = pytree.tree_leaves(specs, is_leaf=_is_spec)
    return [leaf.shape for leaf in leaves if _is_spec(leaf)]


def _families(specs: tuple[Any, ...]) -> Iterator[Dims]:
    """Sets of dims that are varied together, each once, the batch first."""
    shapes = _shapes(specs)
    places = [(number, dim) for number, shape in enumerate(shapes) for dim in range(len(shape))]
    rank = max(map(len, shapes), default=0)
    same_dim = [frozenset(p for p in places if p[1] == dim) for dim in range(rank)]
    by_size: dict[int, set[tuple[int, int]]] = {}
    for number, dim in places:
        by_size.setdefault(shapes[number][dim], set()).add((number, dim))
    alone = [frozenset({place}) for place in places]
    yield from dict.fromkeys([*same_dim, *map(frozenset, by_size.values()), *alone])


def _doubled(specs: tuple[Any, ...], dims: Dims) -> tuple[Any, ...]:
    leaves, structure = pytree.tree_flatten(specs, is_leaf=_is_spec)
    number = 0
    for k, leaf in enumerate(leaves):
        if _is_spec(leaf):
            shape = (n * (1 + ((number, dim) in dims)) for dim, n in enumerate(leaf.shape))
            leaves[k] = replace(leaf, shape=tuple(shape))
            number += 1
    doubled: tuple[Any, ...] = pytree.tree_unflatten(leaves, structure)
    return doubled


def _is_spec(value: Any) -> bool:
    return isinstance(value, InputSpec)
