"""Which tensors a repair may change, for a plan: others are not taken from a result."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from fxprune.errors import InputError
from fxprune.inputs import materialize
from fxprune.readings.runs import Copy, Run, none, uses_of
from fxprune.reconstruction.norm_reads import NormMode, NormRead, Place, Wanted
from fxprune.rules import axes_of
from fxprune.values import copied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.input_sets import Inputs
    from fxprune.meaning import Norm
    from fxprune.planning import Layout
    from fxprune.products import Product
    from fxprune.readings.parts import Part
    from fxprune.readings.products import Read
    from fxprune.rules import Call, Rule


def refuse_others(
    deps: DependencyGraph,
    layout: Layout,
    names: Sequence[str],
    values: Inputs | None,
    norm: Norm,
) -> None:
    """Refuse names of tensors that no repair for a plan changes.

    A repair may change what has channels that the plan removes on one of its axes: the weights that
    read or make them, and their vectors. Beside these:

    1. what takes up constants of the products that read removed channels: a bias, or the running
       mean of a batch norm;
    2. scale, shift and running statistics of norms that run once channels are missing.

    Those are told by a run of the original, and only if they are needed.

    Args:
        deps: the analysis of the original.
        layout: what stays.
        names: of the tensors that are said to be repaired.
        values: inputs of the graph, or None for random ones.
        norm: see `shrink`.

    Raises:
        InputError: a tensor is none of these.
    """
    rest = [n for n in names if n in deps.state and not _loses_positions(deps, layout, n)]
    others = sorted(set(rest) - _vectors(deps, layout, values, norm)) if rest else []
    if others:
        raise InputError(
            f"{others[0]} was repaired, as the shrunk model says, and no repair for this plan"
            " changes it",
            why="it has no channels that the plan removes, takes up no constant of what reads them,"
            " and is of no norm that comes after them",
            hint="pass what fxprune.shrink made of this original by this plan",
        )


def _loses_positions(deps: DependencyGraph, layout: Layout, name: str) -> bool:
    return any(layout.kept(axis) is not None for axis in deps.trace.axes.get(name, ()))


def _vectors(deps: DependencyGraph, layout: Layout, values: Inputs | None, norm: Norm) -> set[str]:
    """The tensors of the kinds 1 and 2, by their names."""
    model, labels = Copy.of(deps), deps.trace.labels.copy()
    lost = partial(layout.removed_positions, labels=labels)
    wanted = Wanted(products=True, norms="refit", state=model.state)
    mode = _NotingMode(labels, none, lost, norm, model.names, wanted=wanted)
    given = materialize(deps.inputs, seed=0) if values is None else values
    run = Run("the original", model.module, copied(list(given)), mode)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        uses = uses_of(deps, model, run)
    takers = (uses.takers.get(part) for part in mode.weights)
    found = [*mode.vectors, *(taker.part for taker in takers if taker is not None)]
    return {part.name for part in found}


class _NotingMode(NormMode):
    """Notes the parts of stored tensors that a repair may change.

    Attributes:
        weights: those that a constant may be for: of products that read removed channels, and
            scales of norms.
        vectors: those of norms.
    """

    def __init__(self, *reading: Any, wanted: Wanted) -> None:
        super().__init__(*reading, wanted=wanted)
        self.weights: list[Part] = []
        self.vectors: list[Part] = []
        self._is_after = False

    def run(self, call: Call, rule: Rule) -> Any:
        """Run an operator; note whether it reads channels that are removed."""
        axes = (axis for tensor in call.tensors() for axis in axes_of(tensor, self.labels))
        self._is_after = self._is_after or any(self.lost(axis).any() for axis in axes)
        return super().run(call, rule)

    def read(self, call: Call, product: Product) -> Read | None:
        """A product that reads removed channels, whose weight is noted."""
        found = super().read(call, product)
        if found is not None and found.part is not None:
            self.weights.append(found.part)
        return found

    def scaling(self, call: Call, place: Place) -> NormRead | None:
        """A norm; what is stored of it is noted if removed channels came before it."""
        found = super().scaling(call, place)
        if self._is_after:
            self.vectors += self.statistics(call) or ()
            if found is not None and found.scale is not None:
                self.weights.append(found.scale.part)
                shift = [] if found.shift is None else [found.shift.part]
                self.vectors += [found.scale.part, *shift]
        return found
