"""Runs of a model without data at several sizes of its inputs: which sizes are dynamic."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    from collections.abc import Iterator, Mapping, Sequence

    from fxprune.analysis import DependencyGraph

Sample: TypeAlias = dict[str, Any]
"""The value of every node, by name, with tensors on the meta device."""
Dims: TypeAlias = frozenset[tuple[int, int]]
"""Dims of inputs, as (number of the input tensor, dim)."""


_PRIMES = (2, 3, 5, 7, 11, 13)


@dataclass(frozen=True)
class Samples:
    """Runs of a model at several sizes of its inputs.

    Attributes:
        base: at the sizes of the example inputs.
        apart: at other sizes that work, one set of dims doubled in each.
        joint: two with all these dims at other sizes, each set by a prime number of its own, so
            that two of them tell what a size is a product of. None if that does not work.
    """

    base: Sample
    apart: tuple[Sample, ...]
    joint: tuple[Sample, ...]


def samples(deps: DependencyGraph) -> Samples:
    """The values of all nodes for the example inputs, and for all other sizes that work.

    Sizes that could belong together are doubled together: the same dim of all inputs (the batch),
    and all dims of the same size. Sizes at which the model does not run say nothing.
    """
    shadow = clone_tree(deps.graph_module, to_meta)
    base = _run(shadow, deps.inputs)
    found: dict[Dims, Sample] = {}
    for dims in _families(deps.inputs):
        try:
            found[dims] = _run(shadow, _scaled(deps.inputs, dict.fromkeys(dims, 2)))
        except Exception:  # noqa: BLE001  # the model's own error: it has no such size
            continue
    try:
        joint = [_run(shadow, _scaled(deps.inputs, factors)) for factors in _factors([*found])]
    except Exception:  # noqa: BLE001  # as above
        joint = []
    return Samples(base, tuple(found.values()), tuple(joint))


def _factors(families: Sequence[Dims]) -> list[dict[tuple[int, int], int]]:
    """Two choices of factors for all dims that vary; what is larger in one is smaller in the other.

    Returns:
        Nothing if the dims of the smallest families, taken apart, are not all that vary.
    """
    chosen: list[Dims] = []
    for dims in sorted(families, key=len):
        if not any(dims & other for other in chosen):
            chosen.append(dims)
    count = len(chosen)
    if frozenset().union(*chosen) != frozenset().union(*families) or not 0 < count < len(_PRIMES):
        return []
    choices = (_PRIMES[:count], _PRIMES[count:0:-1])
    return [
        {dim: prime for dims, prime in zip(chosen, primes, strict=True) for dim in dims}
        for primes in choices
    ]


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


def _scaled(specs: tuple[Any, ...], factors: Mapping[tuple[int, int], int]) -> tuple[Any, ...]:
    leaves, structure = pytree.tree_flatten(specs, is_leaf=_is_spec)
    number = 0
    for k, leaf in enumerate(leaves):
        if _is_spec(leaf):
            shape = (n * factors.get((number, dim), 1) for dim, n in enumerate(leaf.shape))
            leaves[k] = replace(leaf, shape=tuple(shape))
            number += 1
    scaled: tuple[Any, ...] = pytree.tree_unflatten(leaves, structure)
    return scaled


def _is_spec(value: Any) -> bool:
    return isinstance(value, InputSpec)
