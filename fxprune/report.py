"""What shrinking did: cost before and after, widths, verification, diagnostics."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from fxprune.meaning import Meaning

if TYPE_CHECKING:
    from fxprune.comparison import Verification
    from fxprune.cost import Cost
    from fxprune.errors import Diagnostic
    from fxprune.layers import Layer
    from fxprune.planning import GroupPlan
    from fxprune.recipes import Recipe


@dataclass(frozen=True)
class ShrinkReport:
    """The outcome of `shrink`, kept in `small.meta["fxprune"]`. Printing it gives a table.

    Attributes:
        before: cost of the captured original, with all its blocks.
        after: cost of the shrunk model.
        groups: what happened to each prunable group.
        verification: how the result was checked, or None if it was asked not to be.
        diagnostics: why channels are pinned.
        renormalized: places whose statistics run over a pruned axis.
        meaning: over what they run there, and what became of constants (see `shrink`).
        emit: the kind of result, "graph" or "module".
        captured_by: how the graph that was analyzed was made (see `DependencyGraph.captured_by`).
        dropped: the residual blocks that went whole.
        inputs: shape, dtype and integer range of the example inputs, by forward's argument names.
        recipe: what it takes to make the same again, for `fxprune.save`.
        unsavable: why `save_pretrained` refuses, for each model of transformers that it does for.
        layers: widths, parameters and MACs of every layer before and after; they add up to the
            costs.
    """

    before: Cost
    after: Cost
    groups: Mapping[str, GroupPlan]
    verification: Verification | None
    diagnostics: tuple[Diagnostic, ...]
    renormalized: tuple[Diagnostic, ...]
    meaning: Meaning = field(default_factory=Meaning)
    emit: str = "graph"
    captured_by: str = "symbolic_trace"
    dropped: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = field(default=None, repr=False, compare=False)
    unsavable: tuple[Diagnostic, ...] = ()
    layers: tuple[Layer, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was removed."""
        return bool(self.dropped) or any(group.removed for group in self.groups.values())

    def cost_table(self) -> Table:
        """Parameters, bytes and MACs before and after."""
        table = Table("", "before", "after", "left")
        for column in table.columns[1:]:
            column.justify = "right"
        for name in ("parameters", "bytes", "macs"):
            before, after = getattr(self.before, name), getattr(self.after, name)
            share = f"{after / before:.1%}" if before else "-"
            table.add_row(name.replace("macs", "MACs"), f"{before:,}", f"{after:,}", share)
        return table

    def width_table(self) -> Table:
        """The width of every group before and after."""
        table = Table("group", "kind", "before", "after")
        for column in table.columns[2:]:
            column.justify = "right"
        for name, group in self.groups.items():
            table.add_row(name, group.kind, str(group.size), str(group.width))
        return table

    def notes(self) -> list[str]:
        """The remarks below the tables, one sentence each."""
        notes = [f"captured by {self.captured_by}, emitted as a {self.emit}"]
        if self.dropped:
            notes.append(f"dropped whole: {', '.join(self.dropped)}")
        if not self.groups:
            notes.append("nothing to prune: every channel is an input, an output, or pinned")
        elif not self.changed:
            notes.append("nothing was removed: the plan removes no channels")
        notes += [
            f"{name} has no channels left: what its branch still adds is a constant of eval mode"
            for name, group in self.groups.items()
            if group.size and not group.width
        ]
        notes += [str(place) for place in self.renormalized]
        notes += [f"save_pretrained refuses: {diagnostic}" for diagnostic in self.unsavable]
        notes += [f"pinned: {diagnostic}" for diagnostic in self.diagnostics]
        notes.append(str(self.verification) if self.verification else "NOT verified")
        return notes

    def __str__(self) -> str:
        buffer = io.StringIO()
        console = Console(file=buffer, width=100, color_system=None, markup=False)
        console.print(self.width_table())
        console.print(self.cost_table())
        for note in self.notes():
            console.print(f"- {note}", highlight=False, soft_wrap=True)
        return buffer.getvalue()
