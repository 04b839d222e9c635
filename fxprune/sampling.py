"""Runs of a model without data at several sizes of its inputs: which sizes are dynamic."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import fx

from fxprune.inputs import InputSpec, materialize
from fxprune.interpretation import decomposed_attention
from fxprune.interpreter import Interpreter
from fxprune.meta_kernels import MetaMode
from fxprune.module_trees import clone_tree, to_meta
from fxprune.values import mapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fxprune.analysis import DependencyGraph

Sample: TypeAlias = dict[str, Any]
"""The value of every node, by name, with tensors on the meta device."""
Dims: TypeAlias = frozenset[tuple[int, int]]
"""Dims of inputs, as (number of the input tensor, dim)."""


_PRIMES = (2, 3, 5, 7, 11, 13, 17)


@dataclass(frozen=True)
class Samples:
    """Runs of a model at several sizes of its inputs.

    Attributes:
        base: at the sizes of the example inputs.
        apart: at other sizes that work, one set of dims doubled in each, or tripled.
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
    found: dict[Dims, list[Sample]] = {}
    for dims in _families(deps.inputs):
        for factor in _PRIMES[:2]:
            try:
                sample = _run(shadow, _scaled(deps.inputs, dict.fromkeys(dims, factor)))
            except Exception:  # noqa: BLE001  # the model's own error: it has no such size
                break
            found.setdefault(dims, []).append(sample)
    try:
        joint = [_run(shadow, _scaled(deps.inputs, factors)) for factors in _factors([*found])]
    except Exception:  # noqa: BLE001  # as above
        joint = []
    return Samples(base, tuple(itertools.chain(*found.values())), tuple(joint))


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
    if (
        frozenset().union(*chosen) != frozenset().union(*families)
        or not 0 < count < len(_PRIMES) - 1
    ):
        return []
    start = 1 if count % 2 else 2  # so that no set has the same factor in both
    choices = (_PRIMES[:count], _PRIMES[start : start + count][::-1])
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
    found: list[tuple[int, ...]] = []
    mapped(lambda spec: found.append(spec.shape), specs, kind=InputSpec)
    return found


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
    numbers = itertools.count()

    def scaled(spec: InputSpec) -> InputSpec:
        number = next(numbers)
        shape = (n * factors.get((number, dim), 1) for dim, n in enumerate(spec.shape))
        return replace(spec, shape=tuple(shape))

    found: tuple[Any, ...] = mapped(scaled, specs, kind=InputSpec)
    return found
