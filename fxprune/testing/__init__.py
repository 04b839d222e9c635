"""Checks for those who teach fxprune an operator: is my label rule right, and is it precise?

>>> import torch
>>> from fxprune.testing import Operand, Sample, check_rule
>>> relu = torch.ops.aten.relu.default
>>> check_rule(relu, Sample(relu, (Operand((2, 3)),)))
"""

from fxprune.errors import NeedlessPinError, WrongRuleError
from fxprune.testing import adapters
from fxprune.testing.oracle import check_rule
from fxprune.testing.samples import Adapter, Kept, Operand, Sample

__all__ = [
    "Adapter",
    "Kept",
    "NeedlessPinError",
    "Operand",
    "Sample",
    "WrongRuleError",
    "adapters",
    "check_rule",
]
