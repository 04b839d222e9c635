"""From what shrinking did, and what else was measured, to a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.layers import Change
from fxprune.reports.cells import (
    Page,
    Paragraph,
    Section,
    Table,
    Tile,
    columns,
    magnitude,
    share,
    shift,
    text,
)
from fxprune.reports.checks import (
    diagnostic_section,
    dropped_section,
    group_section,
    meaning_section,
    origin_section,
    plan_digest,
    verification_section,
)
from fxprune.reports.extras import candidate_section, latency_section, sensitivity_section
from fxprune.reports.layer_tables import layer_section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fxprune.comparison import Verification
    from fxprune.measurements import Comparison
    from fxprune.planning.sensitivity_data import Sensitivity
    from fxprune.report import ShrinkReport
    from fxprune.reports.tradeoff_data import Tradeoff

_COSTS = (("parameters", "Parameters"), ("macs", "MACs"), ("bytes", "Bytes"))


def page_of(
    report: ShrinkReport,
    *,
    title: str,
    command: str = "",
    sensitivity: Sensitivity | None = None,
    candidates: Tradeoff | None = None,
    latency: Comparison | None = None,
    plots: bool = True,
) -> Page:
    """The page of a report.

    Args:
        report: what shrinking did.
        title: of the page.
        command: that made it, or "".
        sensitivity: of the model that was shrunk.
        candidates: plans to choose from.
        latency: of the models.
        plots: whether the page has plots beside its tables.

    Raises:
        PlanError: the sensitivity is that of another model.
    """
    sections: list[Section | None] = [
        _cost_section(report),
        layer_section(report.layers),
        group_section(report.groups),
        dropped_section(report),
        verification_section(report.verification),
        meaning_section(report),
        diagnostic_section(report),
    ]
    if sensitivity is not None:
        sections.append(sensitivity_section(sensitivity, report, plots=plots))
    if candidates is not None:
        sections.append(candidate_section(candidates, report, plots=plots))
    if latency is not None:
        sections.append(latency_section(latency, plots=plots))
    sections.append(origin_section(report, command))
    shown = tuple(section for section in sections if section is not None)
    return Page(title, tuple(_tiles(report, candidates, latency)), shown)


def _cost_section(report: ShrinkReport) -> Section:
    rows = []
    for name, title in _COSTS:
        change = _cost(report, name)
        rows.append((text(title), shift(change), text(share(change) or "-")))
    parts: list[Paragraph | Table] = []
    if not report.changed:
        parts.append(Paragraph("Nothing was removed: the plan removes no channels.", warning=True))
    parts.append(Table("costs", columns("", "#before → after", "#left"), tuple(rows)))
    return Section("costs", "Cost", tuple(parts))


def _cost(report: ShrinkReport, name: str) -> Change:
    return Change(getattr(report.before, name), getattr(report.after, name))


def _tiles(
    report: ShrinkReport, candidates: Tradeoff | None, latency: Comparison | None
) -> Iterator[Tile]:
    for name, title in _COSTS:
        change = _cost(report, name)
        note = f"{magnitude(change.before)} → {magnitude(change.after)}"
        left = share(change)
        figure = f"{left} left" if left else "none"
        yield Tile(title, figure, note, (change.before, change.after))
    if candidates is not None:
        yield from _value_tile(report, candidates)
    if latency is not None:
        yield from _latency_tile(latency)
    yield _proof_tile(report.verification)


def _value_tile(report: ShrinkReport, candidates: Tradeoff) -> Iterator[Tile]:
    """What the plan of the report is worth, if it is one of the candidates."""
    plan = "" if report.recipe is None else plan_digest(report.recipe.plan)
    for each in candidates.candidates:
        if plan and each.plan == plan and each.value is not None:
            original = next((c.value for c in candidates.candidates if not c.plan), None)
            better = "higher" if candidates.mode == "max" else "lower"
            note = f"{better} is better" + (
                f", the original has {original:.4g}" if original is not None else ""
            )
            title = candidates.metric[:1].upper() + candidates.metric[1:]
            yield Tile(title, f"{each.value:.4g}", note, (each.value,))
            return


def _latency_tile(latency: Comparison) -> Iterator[Tile]:
    """How the first model that was compared with another stands to it."""
    for each in latency.measurements:
        if each.relation is not None:
            ratio, verdict = each.relation.ratio, each.relation.verdict
            figure = verdict if verdict == "no difference" else f"{ratio.median:.2f}x"
            note = f"{each.name} to {each.relation.to}, {each.runtime}"
            note += f" ({ratio.low:.2f}x to {ratio.high:.2f}x)"
            yield Tile("Latency", figure, note, (ratio.median, ratio.low, ratio.high))
            return


def _proof_tile(proof: Verification | None) -> Tile:
    if proof is None:
        return Tile("Verification", "not verified", "nobody has checked this result", good=False)
    note = f"worst relative error {proof.relative:.1e}, tolerance {proof.tolerance:.0e}"
    return Tile("Verification", "verified", note, (proof.relative, proof.tolerance), good=True)
