"""Mutants that no test can notice, each with the reason: they compute the same.

Only what is proven belongs here: a mutant that makes something slower, that words a message or
picks another of several right answers does what the code promises. What merely lacks a test does
not.
"""

from __future__ import annotations

from mutation.mutants import Mutant

_REASONS: dict[tuple[str, str, str], str] = {}


def why_equivalent(mutant: Mutant) -> str | None:
    """Why a mutant computes what the code does, or None if that is not known."""
    return _REASONS.get((mutant.file.removeprefix("fxprune/"), mutant.old, mutant.new))
