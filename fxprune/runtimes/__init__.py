"""How fast and how large models are in the runtimes that they are deployed in."""

from fxprune.measurements import Comparison, Measurement, Relation
from fxprune.reports.latency_chart import draw_chart
from fxprune.runtimes.measuring import compare
from fxprune.runtimes.runners import RUNTIMES, Candidate, Runtime, Settings

__all__ = [
    "RUNTIMES",
    "Candidate",
    "Comparison",
    "Measurement",
    "Relation",
    "Runtime",
    "Settings",
    "compare",
    "draw_chart",
]
