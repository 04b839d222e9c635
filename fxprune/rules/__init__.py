"""Label rules, one file per family of ATen operators. Importing the package fills the table."""

from fxprune.rules import (
    contraction,
    convolution,
    factories,
    indexing,
    movement,
    normalization,
    pointwise,
    reduction,
    reshaping,
    windows,
)
from fxprune.rules.call import Call, axes_of, put_axes, put_value, value_of
from fxprune.rules.place import Place, as_diagnostic, locate
from fxprune.rules.registry import Rule, lookup, registered, rule

__all__ = [
    "Call",
    "Place",
    "Rule",
    "as_diagnostic",
    "axes_of",
    "contraction",
    "convolution",
    "factories",
    "indexing",
    "locate",
    "lookup",
    "movement",
    "normalization",
    "pointwise",
    "put_axes",
    "put_value",
    "reduction",
    "registered",
    "reshaping",
    "rule",
    "value_of",
    "windows",
]
