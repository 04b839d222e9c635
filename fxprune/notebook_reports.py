"""What notebooks show of a report and of a verification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.notebook_tables import (
    Cell,
    Html,
    bar,
    bold,
    details,
    listed,
    paragraph,
    table,
    whole,
)
from fxprune.planning.notebook_plans import widths_html

if TYPE_CHECKING:
    from fxprune.comparison import Verification
    from fxprune.report import ShrinkReport


def report_html(report: ShrinkReport) -> str:
    """A report: cost before and after, the proof; with a click widths and remarks."""
    proof = report.verification
    changed = sum(bool(group.removed) for group in report.groups.values())
    notes = [] if proof is None else [str(proof)]
    widths = widths_html(report.groups)
    dropped = f"dropped whole: {', '.join(report.dropped)}" if report.dropped else ""
    return whole(
        table(["", "before", "after", "left"], _costs(report)),
        paragraph(bold("verified" if proof else "NOT verified"), _errors(proof)),
        paragraph(dropped) if dropped else Html(""),
        details(f"widths ({changed} of {len(report.groups)} groups change)", widths),
        details("remarks", listed([n for n in report.notes() if n not in notes])),
        details("verification", verification_table(proof) if proof else Html("")),
    )


def _costs(report: ShrinkReport) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for name in ("parameters", "bytes", "macs"):
        before, after = getattr(report.before, name), getattr(report.after, name)
        share = bar(after / before) if before else ""
        rows.append([name.replace("macs", "MACs"), before, after, share])
    return rows


def _errors(proof: Verification | None) -> str:
    if proof is None:
        return ""
    return (
        f": {proof.nodes:,} values compared ({proof.compared}), worst relative error"
        f" {proof.relative:.1e}, tolerance {proof.tolerance:.0e} in {proof.dtype}"
    )


def verification_html(proof: Verification) -> str:
    """A verification: what was compared, and how far off it was at worst."""
    return whole(paragraph(bold("verified"), _errors(proof)), verification_table(proof))


def verification_table(proof: Verification) -> Html:
    """What was checked, each with what came out."""
    rounded = f"{proof.rounded:,} values, at most {proof.noise:.1e}" if proof.rounded else ""
    gradients = f"{proof.gradients:,} parameters, worst {proof.gradient_error:.1e}"
    rows: dict[str, str] = {
        "inputs": ", ".join(proof.inputs),
        "values compared": f"{proof.nodes:,} ({proof.compared})",
        "compared by what follows": f"{proof.left_out:,}" if proof.left_out else "",
        "worst relative error": f"{proof.relative:.1e} at {proof.where or '-'}",
        "worst absolute error": f"{proof.absolute:.1e}",
        "tolerance": f"{proof.tolerance:.0e} in {proof.dtype}",
        "measured rounding beyond it": rounded,
        "shapes": f"{proof.shapes:,}",
        "undisturbed by removed channels": f"{proof.undisturbed:,} values",
        "gradients": gradients if proof.gradients else "",
        "dropped blocks": f"{proof.dropped}" if proof.dropped else "",
        "seconds": f"{proof.seconds:.2f}",
    }
    found: list[list[Cell]] = [[name, text] for name, text in rows.items() if text]
    skipped = [f"{name}: {why}" for name, why in proof.skipped.items()]
    return Html(table(["", ""], found) + details(f"left out ({len(skipped)})", listed(skipped)))
