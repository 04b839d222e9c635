"""Criteria: how much each channel counts. The channels that count least are removed first.

A criterion tells how much the positions along axes count; `channel_scores` adds that up over all
positions that are coupled. Where a paper scores the filters of one layer, the score of a channel
here is made of all parameters that go with it (`reduction` tells how).

>>> import torch, fxprune
>>> from fxprune import importance
>>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
>>> plan = fxprune.plan(
...     model, torch.randn(1, 2), 0.4, criterion=importance.L1(), reduction="mean"
... )
>>> plan.groups["0"].width
2
"""

from fxprune.importance.activations import Activation
from fxprune.importance.criterion import Criterion, Elementwise, Evidence
from fxprune.importance.folding import Folding
from fxprune.importance.gradients import Fisher, Taylor
from fxprune.importance.names import CRITERIA, criterion_of
from fxprune.importance.normalization import NORMALIZATIONS, Normalization, normalized
from fxprune.importance.reconstruction import ReconstructionError
from fxprune.importance.reduction import REDUCTIONS, Reduction, channel_scores
from fxprune.importance.redundancy import Cosine, GeometricMedian
from fxprune.importance.weights import L1, L2, LAMP, BatchNormScale, ByFunction, Random

__all__ = [
    "CRITERIA",
    "L1",
    "L2",
    "LAMP",
    "NORMALIZATIONS",
    "REDUCTIONS",
    "Activation",
    "BatchNormScale",
    "ByFunction",
    "Cosine",
    "Criterion",
    "Elementwise",
    "Evidence",
    "Fisher",
    "Folding",
    "GeometricMedian",
    "Normalization",
    "Random",
    "ReconstructionError",
    "Reduction",
    "Taylor",
    "channel_scores",
    "criterion_of",
    "normalized",
]
