"""Runs of a model without data at several sizes of its inputs: which sizes are dynamic."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
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
    """The values of all nodes of a model at several sizes of its inputs, each run when needed.

    Sizes that could belong together are varied together: the same dim of all inputs (the batch),
    and all dims of the same size. Sizes at which the model does not run say nothing.
    """

    deps: DependencyGraph

    @cached_property
    def base(self) -> Sample:
        """At the sizes of the example inputs."""
        return self._run({})

    @cached_property
    def joint(self) -> tuple[Sample, ...]:
        """Two with all dims that vary at other sizes.

        Each set of dims is multiplied by a prime number of its own, so that two samples tell what
        a size is a product of. Empty if that does not work.
        """
        try:
            return tuple(self._run(factors) for factors in _factors(self._smallest()))
        except Exception:  # noqa: BLE001  # the model's own error: it has no such sizes
            return ()

    @cached_property
    def apart(self) -> tuple[Sample, ...]:
        """At other sizes that work, one set of dims doubled in each, or tripled."""
        found: list[Sample] = []
        for dims in _families(self.deps.inputs):
            if (doubled := self._doubled(dims)) is not None:
                found.append(doubled)
                if (tripled := self._multiplied(dims, _PRIMES[1])) is not None:
                    found.append(tripled)
        return tuple(found)

    def seen(self) -> tuple[Sample, ...]:
        """Those that a lowering may have looked at until now; the base first."""
        return (self.base, *self.joint, *(self.apart if "apart" in vars(self) else ()))

    @cached_property
    def _shadow(self) -> fx.GraphModule:
        return clone_tree(self.deps.graph_module, to_meta)

    @cached_property
    def _known(self) -> dict[Dims, Sample | None]:
        return {}

    def _doubled(self, dims: Dims) -> Sample | None:
        """With a set of dims doubled; None if the model does not run so."""
        if dims not in self._known:
            self._known[dims] = self._multiplied(dims, _PRIMES[0])
        return self._known[dims]

    def _multiplied(self, dims: Dims, factor: int) -> Sample | None:
        try:
            return self._run(dict.fromkeys(dims, factor))
        except Exception:  # noqa: BLE001  # as above
            return None

    def _smallest(self) -> list[Dims]:
        """The smallest sets of dims that vary, none with a dim of another.

        There are none if these are not all dims that vary.
        """
        chosen: list[Dims] = []
        covered: Dims = frozenset()
        varying: Dims = frozenset()
        for dims in sorted(_families(self.deps.inputs), key=len):
            if dims <= covered or self._doubled(dims) is None:
                continue
            varying |= dims
            if not dims & covered:
                chosen.append(dims)
                covered |= dims
        return chosen if varying == covered else []

    def _run(self, factors: Mapping[tuple[int, int], int]) -> Sample:
        interpreter = Interpreter(self._shadow, garbage_collect_values=False)
        interpreter.extra_traceback = False
        specs = _scaled(self.deps.inputs, factors)
        with decomposed_attention(), torch.no_grad(), MetaMode():
            interpreter.run(*materialize(specs, seed=None), enable_io_processing=False)
        return {node.name: value for node, value in interpreter.env.items()}


def _factors(chosen: Sequence[Dims]) -> list[dict[tuple[int, int], int]]:
    """Two choices of factors for sets of dims; what is larger in one is smaller in the other."""
    count = len(chosen)
    if not 0 < count < len(_PRIMES) - 1:
        return []
    start = 1 if count % 2 else 2  # so that no set has the same factor in both
    choices = (_PRIMES[:count], _PRIMES[start : start + count][::-1])
    return [
        {dim: prime for dims, prime in zip(chosen, primes, strict=True) for dim in dims}
        for primes in choices
    ]


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
