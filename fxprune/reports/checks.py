"""The sections on what was proved, what must stay, and how the result was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from fxprune.layers import Change
from fxprune.repeats import runs
from fxprune.reports.cells import (
    Cell,
    Paragraph,
    Part,
    Section,
    Table,
    code,
    columns,
    number,
    shift,
    text,
)
from fxprune.version import __version__

if TYPE_CHECKING:
    from fxprune.comparison import Verification
    from fxprune.errors import Diagnostic
    from fxprune.planning import GroupPlan, Plan
    from fxprune.report import ShrinkReport

_SHORT = 8
_RUNS = 24
"""Of more runs of removed channels than this, the first are told."""
_NORMS = {
    "kept": "statistics over a pruned axis run over the kept channels",
    "exact": "statistics over a pruned axis run over the original's width, with zeros",
}
_CONSTANTS = {
    "drop": "the constant that a removed channel still emits is dropped",
    "fold": "the constant that a removed channel still emits went into the biases that read it",
}


def plan_digest(plan: Plan) -> str:
    """What tells a plan: the first 16 digits of the SHA-256 of its JSON."""
    return hashlib.sha256(plan.to_json().encode()).hexdigest()[:16]


def verification_section(proof: Verification | None) -> Section:
    """What was checked, on which inputs, and how far off it was at worst."""
    if proof is None:
        warning = Paragraph("This result was NOT verified.", warning=True)
        return Section("verification", "Verification", (warning,))
    parts: list[Part] = [Table("verification", columns("check", "result"), tuple(_proof(proof)))]
    if proof.skipped:
        rows = tuple((text(name), text(why)) for name, why in proof.skipped.items())
        parts.append(Table("skipped", columns("left out", "why"), rows))
    return Section("verification", "Verification", tuple(parts))


def _proof(proof: Verification) -> Iterator[tuple[Cell, Cell]]:
    scope = {"outputs": "outputs of the model"}.get(proof.compared, proof.compared)
    yield text(f"values compared ({scope})"), number(proof.nodes)
    yield text("worst relative error"), number(proof.relative, f"{proof.relative:.1e}")
    yield text("worst absolute error"), number(proof.absolute, f"{proof.absolute:.1e}")
    yield text("where"), code(proof.where)
    yield text("tolerance"), number(proof.tolerance, f"{proof.tolerance:.0e}")
    yield text("precision"), text(proof.dtype)
    yield text("why this tolerance"), text(proof.why)
    if proof.rounded:
        yield text("values beyond it that rounding explains"), number(proof.rounded)
        yield text("rounding measured there"), number(proof.noise, f"{proof.noise:.1e}")
    if proof.left_out:
        yield text("values that others follow from, not compared"), number(proof.left_out)
    yield text("inputs"), text(", ".join(proof.inputs))
    yield text("shapes as the labels predict"), number(proof.shapes)
    yield text("values that removed channels do not reach"), number(proof.undisturbed)
    yield text("gradients that agree"), number(proof.gradients)
    if proof.gradients:
        error = proof.gradient_error
        yield text("worst error of gradients"), number(error, f"{error:.1e}")
    if proof.dropped:
        yield text("dropped blocks that pass their input on"), number(proof.dropped)


def group_section(groups: Mapping[str, GroupPlan]) -> Section:
    """The width of every group, and which channels went."""
    rows = tuple(
        (
            code(name),
            text(group.kind),
            shift(Change(group.size, group.width)),
            Cell(_runs(group.removed), code=bool(group.removed)),
        )
        for name, group in groups.items()
    )
    if not rows:
        nothing = "There is nothing to prune: every channel is an input, an output, or pinned."
        return Section("groups", "Groups of channels", (Paragraph(nothing),))
    changed = sum(bool(group.removed) for group in groups.values())
    summary = f"all {len(rows)} groups, {changed} of them narrower" if len(rows) > _SHORT else ""
    table = Table("groups", columns("group", "kind", "#width", "removed channels"), rows, summary)
    return Section("groups", "Groups of channels", (table,))


def _runs(channels: Sequence[int]) -> str:
    """Channel numbers with their runs.

    >>> _runs([0, 1, 2, 7])
    '0-2, 7'
    """
    found = runs(channels)
    told = [str(first) if first == last else f"{first}-{last}" for first, last in found[:_RUNS]]
    left = sum(last - first + 1 for first, last in found[_RUNS:])
    return ", ".join(told) + (f" and {left:,} more" if left else "")


def meaning_section(report: ShrinkReport) -> Section:
    """What the result computes where that is a choice."""
    meaning = report.meaning
    rows = (
        (code(f'norm="{meaning.norm}"'), text(_NORMS[meaning.norm])),
        (code(f'constants="{meaning.constants}"'), text(_CONSTANTS[meaning.constants])),
    )
    parts: list[Part] = [Table("meaning", columns("choice", "what it means"), rows)]
    if report.renormalized:
        parts.append(diagnostic_table("renormalized", "place", report.renormalized))
    else:
        parts.append(Paragraph("No operator takes statistics over a pruned axis."))
    gone = [name for name, group in report.groups.items() if group.size and not group.width]
    if gone:
        what = "No channels are left of these: what their branch still adds is a constant."
        rows_gone = tuple((code(name),) for name in gone)
        parts += [Paragraph(what), Table("emptied", columns("group"), rows_gone)]
    return Section("meaning", "Meaning", tuple(parts))


def diagnostic_section(report: ShrinkReport) -> Section | None:
    """Why channels stay, and what a library will refuse."""
    parts: list[Part] = []
    if report.diagnostics:
        parts.append(
            diagnostic_table("diagnostics", "what must stay, or is fixed", report.diagnostics)
        )
    if report.unsavable:
        parts.append(diagnostic_table("unsavable", "save_pretrained refuses", report.unsavable))
    return Section("diagnostics", "Diagnostics", tuple(parts)) if parts else None


def diagnostic_table(name: str, title: str, found: Sequence[Diagnostic]) -> Table:
    """What happened, where, and what would change it."""
    rows = tuple((text(d.what), code(str(d.where)), text(d.hint)) for d in found)
    summary = f"all {len(rows)}" if len(rows) > _SHORT else ""
    return Table(name, columns(title, "where", "what to do"), rows, summary)


def dropped_section(report: ShrinkReport) -> Section | None:
    """The residual blocks that went whole."""
    if not report.dropped:
        return None
    known = {layer.name: layer for layer in report.layers if layer.dropped}
    rows = []
    for name in report.dropped:
        layer = known.get(name)
        figures = (layer.parameters.before, layer.macs.before) if layer is not None else (0, 0)
        rows.append((code(name), text(layer.kind if layer else ""), *map(number, figures)))
    table = Table("dropped", columns("block", "kind", "#parameters", "#MACs"), tuple(rows))
    return Section("dropped", "Dropped blocks", (table,))


def origin_section(report: ShrinkReport, command: str) -> Section:
    """How the result was made."""
    rows = [
        (text("fxprune"), text(__version__)),
        (text("torch"), text(torch.__version__)),
        (text("captured by"), code(report.captured_by)),
        (text("emitted as"), code(report.emit)),
        *((text(f"input {name}"), code(str(value))) for name, value in report.inputs.items()),
    ]
    if command:
        rows.insert(0, (text("command"), code(command)))
    options: tuple[tuple[Cell, Cell], ...] = ()
    if report.recipe is not None:
        plan = report.recipe.plan
        rows += [
            (text("structure of the original (SHA-256)"), code(plan.digest)),
            (text("plan"), code(plan_digest(plan))),
        ]
        options = tuple((code(name), code(_plain(value))) for name, value in plan.made.items())
    parts: list[Part] = [Table("origin", columns("", ""), tuple(rows))]
    if options:
        parts.append(Table("made", columns("option of the plan", "value"), options))
    return Section("origin", "How it was made", tuple(parts))


def _plain(value: Any) -> str:
    """A value of a plan's options, as JSON where it is that."""
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError):  # with keys that are no texts, or nested in itself
        return type(value).__name__
