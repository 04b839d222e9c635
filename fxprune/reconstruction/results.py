"""What was repaired, and how well."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fxprune.notebook_tables import Shown
from fxprune.tables import Page, table

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fxprune.analysis import DependencyGraph

_KINDS = {
    "layer": "layers that read removed channels",
    "norm": "norms that yield something else because of them",
}


@dataclass(frozen=True)
class Repair:
    """One layer that reads removed channels, or a norm that yields something else because of them.

    Attributes:
        weight: the name of its weight; the running mean's of a norm that has none, and the node's
            of what has no weight at all.
        node: the node of the graph that reads.
        inputs: how many channels it read.
        kept: how many of them are kept.
        before: the error of what it computes without the removed channels: its second moment, as a
            share of the variance of what the original computes there. NaN if it was not measured.
        after: the same after the repair; never larger.
        intercept: the name of what took up the constant part, or nothing.
        why: why it was left as it is, or nothing; of a layer that reads merged channels, why others
            are dropped.
        tensors: the names of those that have other values now.
        kind: "layer" or "norm".
        merged: how many of the removed channels it reads now together with kept ones (`fold`).
    """

    weight: str
    node: str
    inputs: int
    kept: int
    before: float = float("nan")
    after: float = float("nan")
    intercept: str = ""
    why: str = ""
    tensors: tuple[str, ...] = ()
    kind: Literal["layer", "norm"] = "layer"
    merged: int = 0


@dataclass(frozen=True)
class Reconstruction(Shown):
    """The outcome of `reconstruct` or `fold`. Printing it gives a table.

    Attributes:
        repairs: the layers that read removed channels and the norms that yield something else
            because of them, in the order in which they run.
        deps: its analysis, which saves analyzing it again.
        tensors: the repaired tensors by name, as large as in the original.
        batches: how many were run; 0 if no data was used.
    """

    deps: DependencyGraph = field(repr=False)
    repairs: tuple[Repair, ...]
    tensors: Mapping[str, Tensor] = field(repr=False)
    batches: int

    @property
    def model(self) -> nn.Module:
        """The repaired original: a copy that shares all tensors but the repaired ones with it.

        Shrinking it by the plan gives the repaired small model.
        """
        return self.deps.model

    def __rich__(self) -> Page:
        if not self.batches:
            return _page_of_merged(self.repairs)
        rows = []
        for each in self.repairs:
            errors = [f"{each.before:.1%}", f"{each.after:.1%}", each.intercept or "nothing"]
            told = ["", "", f"left: {each.why}"] if each.why else errors
            rows.append([each.weight, str(each.inputs), str(each.kept), *told])
        head = ("weight", "inputs", "kept", "error before", "after", "constant part goes to")
        return Page.of(table(head, rows, left=(0, 5), fits=(0, 5)))

    def __str__(self) -> str:
        return str(self.__rich__())


def _page_of_merged(repairs: Sequence[Repair]) -> Page:
    """The table of `fold`."""
    head = ("weight", "inputs", "kept", "merged", "why others are dropped")
    rows = [
        [each.weight, str(each.inputs), str(each.kept), str(each.merged), each.why]
        for each in repairs
    ]
    return Page.of(table(head, rows, left=(0, 4), fits=(0, 4)))


def told_repairs(repairs: Sequence[Repair]) -> list[str]:
    """What was repaired, in sentences: how well, and what was not."""
    done = [each for each in repairs if each.merged or not each.why]
    if not repairs:
        return []
    counts = [
        f"{sum(each.kind == kind for each in done)} of {total} {what}"
        for kind, what in _KINDS.items()
        if (total := sum(each.kind == kind for each in repairs))
    ]
    notes = [f"{' and '.join(counts)} were repaired"]
    layers = [each for each in repairs if each.kind == "layer"]
    if any(each.merged for each in layers):
        merged = sum(each.merged for each in layers)
        gone = sum(each.inputs - each.kept for each in layers)
        notes[0] += f" without data: {merged} of {gone} removed inputs are merged into kept ones"
    elif any(not math.isnan(each.before) for each in done):
        before, after = (
            statistics.median(getattr(each, name) for each in done) for name in ("before", "after")
        )
        notes[0] += f" from data: errors were {before:.1%}, and are {after:.1%} (medians)"
    return notes + [
        f"{'in part' if each.merged else 'not'} repaired: {each.weight}: {each.why}"
        for each in repairs
        if each.why
    ]
