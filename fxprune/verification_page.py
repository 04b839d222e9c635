"""What printing a verification shows: what was compared, how far it was off, and what was not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.tables import Page, entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.comparison import Verification


def verification_page(proof: Verification, *, full: bool = False) -> Page:
    """The outcome in a line, and what it rests on below; `full` tells all reasons."""
    scope = "outputs" if proof.compared == "outputs" else f"values, {proof.compared}"
    scope += f" but {proof.left_out} that others follow from" if proof.left_out else ""
    error = (
        f"worst relative error {abs(proof.relative):.1e} (absolute {abs(proof.absolute):.1e}) at"
        f" {proof.where or '-'}, tolerance {proof.tolerance:.0e} in {proof.dtype}"
    )
    if proof.rounded:
        error += (
            f" (exceeded {proof.rounded} times by rounding: the last bits of its weights change"
            f" the original itself by {proof.noise:.1e} there)"
        )
    also = [
        f"{proof.shapes} shapes",
        f"{proof.undisturbed} values undisturbed by removed channels",
        f"{proof.gradients} gradients",
    ]
    if proof.dropped:
        also.append(f"dropped blocks pass their input on ({proof.dropped})")
    skipped = (f"{name}: {why}" if full else name for name, why in proof.skipped.items())
    rows = {
        "inputs": ", ".join(proof.inputs),
        "error": error,
        "also": ", ".join(also),
        "repaired": _repaired(proof.repaired, full=full),
        "tolerance": proof.why if full else "",
        "left out": ("; " if full else ", ").join(skipped),
    }
    return Page.of(
        f"verified: {proof.nodes} {scope}; {proof.seconds:.2f} s",
        entries({name: told for name, told in rows.items() if told}),
    )


def _repaired(names: Sequence[str], *, full: bool) -> str:
    """What was not proved of repaired tensors."""
    if not names:
        return ""
    which = f": {', '.join(names)}" if full else ""
    return f"{len(names)} tensors, with the values that they have in the result{which}"
