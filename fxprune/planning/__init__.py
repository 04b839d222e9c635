"""Plans: which channels to remove, as data; how they are chosen; and the layout they lead to."""

from fxprune.planning.choice import plan
from fxprune.planning.layout import Layout
from fxprune.planning.plan_data import GroupPlan, Plan

__all__ = ["GroupPlan", "Layout", "Plan", "plan"]
