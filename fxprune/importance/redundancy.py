"""Criteria that compare the channels of a layer with one another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from fxprune.importance.criterion import Criterion, Evidence, weights_of

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph


class _Compared(Criterion):
    """A criterion of the rows of a matrix: of the filters of a parameter, along each of its dims.

    A vector, such as a bias, has nothing to compare and does not count.
    """

    needs = "a parameter of two dims or more"

    @abstractmethod
    def rows(self, rows: torch.Tensor) -> torch.Tensor:
        """How much each row of a matrix counts among the others."""

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """What the filters of each parameter count, along each dim that has channels."""
        for name, weights in weights_of(deps):
            for dim, axis in enumerate(deps.trace.axes[name]):
                if weights.dim() > 1 and deps.trace.labels.leaves(axis):
                    rows = weights.movedim(dim, 0).flatten(1).double()
                    yield Evidence(axis, self.rows(rows).cpu().numpy())


@dataclass(frozen=True)
class GeometricMedian(_Compared):
    """The sum of the distances from a filter to all others of its layer.

    Filters near the geometric median of all can be replaced by the others. He et al., Filter
    Pruning via Geometric Median for Deep Neural Networks Acceleration, 2019, equation 5.
    """

    comparable = False

    def rows(self, rows: torch.Tensor) -> torch.Tensor:
        """The sum of Euclidean distances to all other rows."""
        distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.sum(1)


@dataclass(frozen=True)
class Cosine(_Compared):
    """How little a filter resembles the one of its layer that is most like it.

    One minus the largest absolute cosine between it and any other: 0 for a filter that is a
    multiple of another one, 1 for one that is orthogonal to all.
    """

    def rows(self, rows: torch.Tensor) -> torch.Tensor:
        """1 - max |cos|."""
        directions = F.normalize(rows, dim=1, eps=torch.finfo(rows.dtype).tiny)
        cosines = (directions @ directions.T).abs().fill_diagonal_(0.0)
        found = 1 - cosines.max(1).values.clamp(max=1.0)
        return torch.where(rows.any(1), found, 0.0)  # zero is a multiple of any other
