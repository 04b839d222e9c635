"""Plans: which channels to remove, as data; how they are chosen; and the layout they lead to."""

from fxprune.planning.choice import make_plan
from fxprune.planning.layout import Layout
from fxprune.planning.plan_data import GroupPlan, Plan
from fxprune.planning.strategies import SCOPES, Strategy

__all__ = ["SCOPES", "GroupPlan", "Layout", "Plan", "Strategy", "make_plan"]
