"""The sections on what else was measured: sensitivity, candidate plans, latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fxprune.errors import InputError, PlanError
from fxprune.reports.cells import (
    Cell,
    Paragraph,
    Part,
    Plot,
    Section,
    Table,
    code,
    columns,
    number,
    text,
)
from fxprune.reports.charts import curves_figure, front_figure, inline_svg
from fxprune.reports.checks import plan_digest
from fxprune.reports.latency_chart import draw_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fxprune.measurements import Comparison, Measurement
    from fxprune.planning import GroupPlan, Plan
    from fxprune.planning.sensitivity_data import Curve, Sensitivity
    from fxprune.report import ShrinkReport
    from fxprune.reports.tradeoff_data import Candidate, Tradeoff

_MIB = 2**20
_WIDTH = 8.2
"""Of plots, in inches."""
_MOST_RATIOS = 20
_SHORT = 12


def _plotted(draw: Callable[[], Figure], name: str, label: str) -> Part:
    """A plot; where there is no matplotlib a sentence, for the tables tell the same."""
    try:
        return Plot(inline_svg(draw, name), label)
    except InputError as error:
        return Paragraph(f"The plot is left out: {error.what} ({error.hint}).")


def sensitivity_section(sensitivity: Sensitivity, report: ShrinkReport, *, plots: bool) -> Section:
    """What the model loses with each group alone.

    Raises:
        PlanError: it was measured of another model.
    """
    recipe = report.recipe
    digest = digest_of(None if recipe is None else recipe.plan)
    check_same_model(sensitivity, report.groups, digest)
    ratios = sensitivity.ratios[:_MOST_RATIOS]
    titles = ["group", "#channels", "removed here", *(f"#{ratio:g}" for ratio in ratios)]
    rows = tuple(
        (
            code(name),
            number(curve.size),
            _removed(report.groups.get(name)),
            *(_value(curve, ratio) for ratio in ratios),
        )
        for name, curve in sensitivity.curves.items()
    )
    better = "higher" if sensitivity.mode == "max" else "lower"
    first = (
        f"What the model is worth without a share of the channels of one group; {better} is better,"
        f" {sensitivity.baseline:.4g} with all."
    )
    if len(sensitivity.ratios) > len(ratios):
        first += f" The table has the first {len(ratios)} of {len(sensitivity.ratios)} ratios."
    parts: list[Part] = [Paragraph(first)]
    if plots and ratios:
        label = "Curves of value over the share of removed channels, one for each group"
        parts.append(_plotted(lambda: curves_figure(sensitivity), "curves", label))
    summary = f"all {len(rows)} groups" if len(rows) > _SHORT else ""
    parts.append(Table("sensitivity", columns(*titles), rows, summary))
    return Section("sensitivity", "Sensitivity", tuple(parts))


def check_same_model(
    sensitivity: Sensitivity, groups: Mapping[str, GroupPlan], digest: str
) -> None:
    """Refuse a sensitivity of another model.

    Args:
        sensitivity: what was measured.
        groups: those of the plan that was followed.
        digest: of the model's structure; "" if it is not known, or another one since blocks are
            dropped, of which groups may be missing then.

    Raises:
        PlanError: it was measured of another model.
    """
    sizes = {name: curve.size for name, curve in sensitivity.curves.items()}
    differing = [n for n, g in groups.items() if sizes.get(n, g.size) != g.size]
    is_other = bool(digest) and digest != sensitivity.digest
    if is_other or differing or (sizes and groups.keys().isdisjoint(sizes)):
        why = "its structure has another digest"
        if differing:
            name = differing[0]
            why = f"group {name} has {sizes[name]} channels there, {groups[name].size} here"
        raise PlanError(
            "the sensitivity belongs to another model",
            why=why,
            hint="pass one that was measured of the model that was shrunk",
        )


def digest_of(plan: Plan | None) -> str:
    """What tells the whole model that a plan is for; "" if it tells only what blocks leave."""
    return "" if plan is None or plan.dropped else plan.digest


def _removed(group: GroupPlan | None) -> Cell:
    if group is None:
        return Cell()
    share = len(group.removed) / group.size if group.size else 0.0
    return Cell(f"{share:.0%}", values=(len(group.removed),), changed=bool(group.removed))


def _value(curve: Curve, ratio: float) -> Cell:
    for point in curve.points:
        if point.ratio == ratio:
            known = point.value
            return text("not finite") if known is None else number(known, f"{known:.4g}")
    return Cell()


def candidate_section(tradeoff: Tradeoff, report: ShrinkReport, *, plots: bool) -> Section:
    """What plans cost and what they are worth, the Pareto front marked."""
    chosen = plan_digest(report.recipe.plan) if report.recipe is not None else ""
    fronts = {cost: tradeoff.front(cost) for cost in ("macs", "parameters")}
    rows = tuple(
        (
            code(each.name),
            number(each.parameters),
            number(each.macs),
            Cell("-") if each.value is None else number(each.value, f"{each.value:.4g}"),
            text(_standing(each, fronts, is_chosen=bool(chosen) and each.plan == chosen)),
        )
        for each in tradeoff.candidates
    )
    better = "higher" if tradeoff.mode == "max" else "lower"
    first = Paragraph(
        "A plan is on the Pareto front if no other one is as good in both, cost and"
        f" {tradeoff.metric}, and better in one; {better} values are better."
        + (" In the plot these are filled, and this plan has a ring." if plots else "")
    )
    parts: list[Part] = [first]
    if plots and any(each.value is not None for each in tradeoff.candidates):
        label = "Cost of candidate plans against their value, the Pareto front as a line"
        parts.append(_plotted(lambda: front_figure(tradeoff, chosen), "front", label))
    titles = ("plan", "#parameters", "#MACs", f"#{tradeoff.metric}", "standing")
    parts.append(Table("candidates", columns(*titles), rows))
    return Section("candidates", "Candidate plans", tuple(parts))


def _standing(each: Candidate, fronts: dict[str, tuple[Candidate, ...]], *, is_chosen: bool) -> str:
    told = ["this plan"] if is_chosen else []
    names = {"macs": "MACs", "parameters": "parameters"}
    on = [names[cost] for cost, front in fronts.items() if each in front]
    return ", ".join([*told, f"on the front ({', '.join(on)})"] if on else told)


def latency_section(latency: Comparison, *, plots: bool) -> Section:
    """How fast and how large models are, side by side."""
    rows = tuple(
        (
            code(each.name),
            text(each.runtime),
            _milliseconds(each),
            text(each.relation or each.failure),
            *(_mebibytes(count) for count in (each.peak_memory, each.size)),
        )
        for each in latency.measurements
    )
    titles = ("model", "runtime", "#ms", "of the first", "#peak MiB", "#size MiB")
    limit = latency.memory_limit
    first = (
        f"Milliseconds for one call: the median of {latency.rounds} rounds and the 10th and 90th"
        f" percentile, with {latency.threads} thread{'s' if latency.threads > 1 else ''}."
        + (f" No process may hold more than {limit / _MIB:.0f} MiB." if limit is not None else "")
    )
    parts: list[Part] = [Paragraph(first)]
    if plots and any(each.milliseconds is not None for each in latency.measurements):
        label = "Bars of latency, peak memory and size of each model"
        parts.append(_plotted(lambda: draw_chart(latency, width=_WIDTH), "latency", label))
    parts.append(Table("latency", columns(*titles), rows))
    return Section("latency", "Latency", tuple(parts))


def _mebibytes(count: int) -> Cell:
    """An amount of memory; empty for none."""
    mib = count / _MIB
    return number(count, f"{mib:.1f}" if mib >= 1 else f"{mib:.2g}") if count else Cell()


def _milliseconds(each: Measurement) -> Cell:
    spread = each.milliseconds
    if spread is None:
        return text("failed")
    return Cell(str(spread), values=(spread.median, spread.low, spread.high))
