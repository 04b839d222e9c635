"""The tables of docs/correctness.md, from the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mutation.equivalents import why_equivalent
from mutation.mutants import PACKAGES, TOOL
from mutation.running import Result

BEGIN, END = "<!-- mutation: begin -->", "<!-- mutation: end -->"


def render(results: Sequence[Result], seed: int) -> str:
    """What stands between the markers."""
    made = (
        f"Written by `make mutation` (`python -m mutation`): {len(results)} mutants of {TOOL}, "
        f"drawn with seed {seed}."
    )
    open_ones = [r for r in results if _survived(r) and not _is_equivalent(r)]
    equal = [r for r in results if _is_equivalent(r)]
    parts = [made, totals(results)]
    if open_ones:
        parts += ["Survivors that a test could notice:", _listed(open_ones, lambda r: "")]
    if equal:
        parts += ["Survivors that compute the same:", _listed(equal, _reason)]
    return "\n\n".join(parts)


def replaced(document: str, text: str) -> str:
    """A document with other text between the markers."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"the document lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def totals(results: Sequence[Result]) -> str:
    """How many mutants of each package had which outcome."""
    lines = [
        "| package | mutants | killed | timed out | survived | of these equivalent | score |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for package in (*PACKAGES, None):
        members = [r for r in results if package in (r.mutant.package, None)]
        outcomes = [r.outcome for r in members]
        counts = [outcomes.count(outcome) for outcome in ("killed", "timed out", "survived")]
        equal = sum(map(_is_equivalent, members))
        name = "all" if package is None else f"`fxprune/{package}`"
        cells = [name, len(members), *counts, equal, f"**{score(members):.1%}**"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def score(results: Sequence[Result]) -> float:
    """The share of mutants that were noticed, of those that change anything."""
    noticed = sum(not _survived(r) for r in results)
    changing = len(results) - sum(map(_is_equivalent, results))
    return noticed / changing if changing else 1.0


def _survived(result: Result) -> bool:
    return result.outcome == "survived"


def _is_equivalent(result: Result) -> bool:
    return _survived(result) and why_equivalent(result.mutant) is not None


def _reason(result: Result) -> str:
    return f": {why_equivalent(result.mutant)}"


def _listed(results: Sequence[Result], more: Callable[[Result], str]) -> str:
    lines = []
    for result in sorted(results, key=lambda r: (r.mutant.file, r.mutant.line)):
        mutant = result.mutant
        place = f"`{mutant.file.removeprefix('fxprune/')}:{mutant.line}`"
        lines.append(f"- {place} `{mutant.old}` becomes `{mutant.new}`{more(result)}")
    return "\n".join(lines)
