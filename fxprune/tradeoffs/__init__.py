"""Candidate plans side by side: what each leaves of a model, and what that is worth."""

from fxprune.tradeoffs.appraising import ORIGINAL
from fxprune.tradeoffs.comparing import KEPT_NORM, tradeoff

__all__ = ["KEPT_NORM", "ORIGINAL", "tradeoff"]
