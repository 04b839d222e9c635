"""What shrinking did: cost before and after, widths, verification, diagnostics."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxprune.files import write_atomically
from fxprune.meaning import Meaning
from fxprune.notebook_reports import report_html
from fxprune.notebook_tables import Shown
from fxprune.planning.notebook_plans import plot_of_widths
from fxprune.reconstruction.results import told_repairs
from fxprune.remarks import told_once
from fxprune.repeats import patterns
from fxprune.report_page import report_page
from fxprune.reports import html_of, markdown_of, page_of
from fxprune.tables import Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fxprune.comparison import Verification
    from fxprune.cost import Cost
    from fxprune.errors import Diagnostic
    from fxprune.layers import Layer
    from fxprune.measurements import Comparison
    from fxprune.planning import GroupPlan
    from fxprune.planning.sensitivity_data import Sensitivity
    from fxprune.recipes import Recipe
    from fxprune.reconstruction import Repair
    from fxprune.reports import Tradeoff


@dataclass(frozen=True)
class ShrinkReport(Shown):
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
        repairs: the layers that were repaired (see `reconstruct` and `fold`), or left, and why.
        repaired: the names of the tensors that have other values since.
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
    layers: tuple[Layer, ...] = field(default=(), repr=False)
    repairs: tuple[Repair, ...] = ()
    repaired: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was removed."""
        return bool(self.dropped) or any(group.removed for group in self.groups.values())

    def notes(self, *, full: bool = True) -> list[str]:
        """The remarks below the tables, one sentence each.

        Args:
            full: whether what is said of several places is said of each.
        """

        def told(found: tuple[Diagnostic, ...]) -> Iterator[str]:
            return map(str, found) if full else told_once(found)

        notes = [f"captured by {self.captured_by}, emitted as a {self.emit}"]
        if self.dropped:
            notes.append(f"dropped whole: {', '.join(self.dropped)}")
        if not self.groups:
            notes.append("nothing to prune: every channel is an input, an output, or pinned")
        elif not self.changed:
            notes.append("nothing was removed: the plan removes no channels")
        notes += told_repairs(self.repairs)
        emptied = (n for n, group in self.groups.items() if group.size and not group.width)
        notes += [
            f"{name} has no channels left: what its branch still adds is a constant of eval mode"
            for name in (emptied if full else map(str, patterns(emptied)))
        ]
        notes += told(self.renormalized)
        notes += [f"save_pretrained refuses: {each}" for each in told(self.unsavable)]
        notes += [f"pinned: {each}" for each in told(self.diagnostics)]
        return notes

    def text(self, *, full: bool = False) -> str:
        """What printing it shows: layers and widths before and after, the cost, and remarks.

        Layers whose names differ in indices only, and of which all numbers are the same, are one
        row: `layer1.{0-2}.conv2`. Norms are told together. Parameters and MACs are of all
        layers of a row.

        Args:
            full: every layer and every group on its own.
        """
        return str(report_page(self, full=full))

    def __str__(self) -> str:
        return self.text()

    def __rich__(self) -> Page:
        return report_page(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The width of every group before and after, as bars; see `Plan.plot`."""
        return plot_of_widths(self.groups, path)

    def to_html(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        title: str = "Pruning report",
        command: str = "",
        sensitivity: Sensitivity | None = None,
        candidates: Tradeoff | None = None,
        latency: Comparison | None = None,
    ) -> str:
        """One page of all that was done, for a pull request: a file that needs nothing else.

        It has what was removed where, cost, verification, meaning, diagnostics, and how the result
        was made; plots where matplotlib is installed. The same report gives the same text.

        Args:
            path: where to write it; None to write nothing.
            title: of the page.
            command: what made the result, to be shown.
            sensitivity: curves of the model that was shrunk.
            candidates: plans to choose from, with what each is worth (`fxprune.tradeoffs`).
            latency: what `fxprune bench --json` measured (`Comparison.load`).

        Returns:
            The text of the page.

        Raises:
            PlanError: the sensitivity is that of another model.
            FxPruneError: the file cannot be written.
        """
        page = page_of(
            self,
            title=title,
            command=command,
            sensitivity=sensitivity,
            candidates=candidates,
            latency=latency,
        )
        return _written(html_of(page), path)

    def to_markdown(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        title: str = "Pruning report",
        command: str = "",
        sensitivity: Sensitivity | None = None,
        candidates: Tradeoff | None = None,
        latency: Comparison | None = None,
    ) -> str:
        """The same page in GitHub's Markdown, for a comment: tables, and no plots.

        It has always fewer than 65,536 characters, which a comment holds. What is cut for that is
        told.

        Args:
            path: where to write it; None to write nothing.
            title: see `to_html`.
            command: see `to_html`.
            sensitivity: see `to_html`.
            candidates: see `to_html`.
            latency: see `to_html`.

        Returns:
            The text.

        Raises:
            PlanError, FxPruneError: see `to_html`.
        """
        page = page_of(
            self,
            title=title,
            command=command,
            sensitivity=sensitivity,
            candidates=candidates,
            latency=latency,
            plots=False,
        )
        return _written(markdown_of(page), path)

    def _repr_html_(self) -> str:
        return report_html(self)


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    """The text, which is in the file of that path then."""
    if path is not None:
        write_atomically(Path(path), lambda stream: stream.write(text.encode()))
    return text
