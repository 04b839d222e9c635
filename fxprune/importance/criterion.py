"""What a criterion is: it tells how much the positions along axes count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.errors import InputError, first_line

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Axis

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """How much each position along one axis counts.

    Attributes:
        axis: an axis of a parameter, or of a value of the graph, of n positions.
        values: n numbers, float64.
    """

    axis: Axis
    values: Numbers


class Criterion(ABC):
    """How much channels count.

    Attributes:
        needs: what a group must have to be scored. A plan that is to take channels of a group of
            which no evidence speaks is refused, and says so; with "" the group scores 0 instead.
        comparable: whether scores of different groups compare; not if they grow with the size of a
            layer.
    """

    needs: str = "something that the criterion speaks of"
    comparable: bool = True

    def __str__(self) -> str:
        return type(self).__name__

    @abstractmethod
    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """How much positions count, axis by axis; `reduction="first"` takes the first of them."""

    def finished(self, scores: Numbers) -> Numbers:
        """The scores of channels, of what was added up; the same by default."""
        return scores


class Elementwise(Criterion):
    """A criterion that tells how much every single weight counts.

    A position along an axis of a parameter counts as much as all weights there together.
    """

    @abstractmethod
    def saliency(self, name: str, weights: torch.Tensor) -> torch.Tensor | None:
        """How much every element of a parameter counts: a tensor of its shape, or None for not."""

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """The sums over all other dims of each parameter, in float64.

        Raises:
            InputError: `saliency` returns another shape than the parameter's.
        """
        for name, weights in weights_of(deps):
            saliency = self.saliency(name, weights)
            if saliency is None:
                continue
            if saliency.shape != weights.shape:
                raise InputError(
                    f"{self}.saliency returns shape {tuple(saliency.shape)} for parameter {name}",
                    why=f"it must return a tensor of the parameter's, {tuple(weights.shape)}",
                )
            saliency = saliency.double()
            for dim, axis in enumerate(deps.trace.axes[name]):
                if deps.trace.labels.leaves(axis):
                    yield Evidence(axis, _along(saliency, dim).cpu().numpy())


def _along(saliency: torch.Tensor, dim: int) -> torch.Tensor:
    """The sums over all other dims: first those before, which takes half of the time."""
    rows = saliency.flatten(0, dim - 1).sum(0) if dim else saliency
    return rows.flatten(1).sum(1) if rows.dim() > 1 else rows


def weights_of(deps: DependencyGraph) -> Iterator[tuple[str, torch.Tensor]]:
    """The values of `parameters_of`, at least in single precision; of complex ones, absolute."""
    for name, parameter in parameters_of(deps).items():
        weights = parameter.abs() if parameter.is_complex() else parameter
        yield name, weights if weights.dtype == torch.float64 else weights.float()


@contextmanager
def refusing(what: str, hint: str) -> Iterator[None]:
    """Whatever a user's own function raises is an InputError."""
    try:
        yield
    except Exception as error:
        what = f"{what}: {first_line(error)}"
        raise InputError(what, why=type(error).__name__, hint=hint) from error


def parameters_of(deps: DependencyGraph) -> dict[str, torch.Tensor]:
    """The parameters with channels that some operator reads, detached: a tied one once.

    Raises:
        InputError: a parameter has no data.
    """
    trace = deps.trace
    found = {}
    for name, tensor in deps.graph_module.named_parameters():
        if name not in trace.touched or not any(map(trace.labels.leaves, trace.axes[name])):
            continue
        if tensor.device.type == "meta":
            raise InputError(
                f"parameter {name} has no data",
                hint='load the weights, or take criterion="random"',
            )
        found[name] = tensor.detach()
    return found
