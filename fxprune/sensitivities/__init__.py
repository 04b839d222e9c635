"""Sensitivity analysis: what a model loses with a share of each of its groups."""

from fxprune.sensitivities.measuring import sensitivity

__all__ = ["sensitivity"]
