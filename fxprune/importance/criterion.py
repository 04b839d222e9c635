"""What a criterion is: it tells how much the positions along axes count."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Sequence
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
        joint: whether all processes of `torch.distributed` make the scores together, each with its
            own data.
    """

    needs: str = "something that the criterion speaks of"
    comparable: bool = True
    joint: bool = False

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

    Attributes:
        separable: whether a weight counts the same whatever the others are. Then large parameters
            are taken in pieces, so that little memory is needed.
    """

    separable: bool = False

    @abstractmethod
    def saliency(self, name: str, weights: torch.Tensor) -> torch.Tensor | None:
        """How much every element of a parameter counts: a tensor of its shape, or None for not.

        If the criterion is separable, the weights are a part of a large parameter.
        """

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """The sums over all other dims of each parameter, in float64.

        Raises:
            InputError: `saliency` returns another shape than that of the weights.
        """
        for name, weights in stored_weights(deps):
            axes = deps.trace.axes[name]
            dims = [dim for dim, axis in enumerate(axes) if deps.trace.labels.leaves(axis)]
            for dim, sums in (self._sums(name, weights, dims) or {}).items():
                yield Evidence(axes[dim], sums)

    def _sums(
        self, name: str, weights: torch.Tensor, dims: Sequence[int]
    ) -> dict[int, Numbers] | None:
        """The sums over all dims but one, for some dims; None if the parameter does not count.

        All that later dims need is one sum over the first one, unless that is large itself.
        """
        sums = {dim: np.zeros(weights.shape[dim]) for dim in dims}
        later = [dim for dim in dims if dim]
        whole = (slice(None),) * weights.dim()
        rest = None
        if later and math.prod(weights.shape[1:]) <= LARGEST_SUM:
            rest = weights.new_zeros(weights.shape[1:], dtype=torch.float64)
        for place in pieces(weights.shape) if self.separable else (whole,):
            part = widened(weights[place])
            saliency = self.saliency(name, part)
            if saliency is None:
                return None
            if saliency.shape != part.shape:
                raise InputError(
                    f"{self}.saliency returns shape {tuple(saliency.shape)} for parameter {name}",
                    why=f"it must return a tensor of the parameter's, {tuple(part.shape)}",
                )
            saliency = saliency.to(weights.device, torch.float64)
            for dim in dims if rest is None else set(dims) - set(later):
                sums[dim][place[dim]] += _along(saliency, dim)
            if rest is not None:
                rest[place[1:]] += saliency.sum(0)
        return sums if rest is None else sums | {dim: _along(rest, dim - 1) for dim in later}


def _along(saliency: torch.Tensor, dim: int) -> Numbers:
    """The sums over all other dims: first those before, which takes half of the time."""
    rows = saliency.flatten(0, dim - 1).sum(0) if dim else saliency
    sums: Numbers = (rows.flatten(1).sum(1) if rows.dim() > 1 else rows).cpu().numpy()
    return sums


LARGEST_SUM = 1 << 18
"""How many elements of a parameter there may be at one position of its first dim to be summed over
that in one sweep: in double precision they take 2 MiB."""
LARGEST_PIECE = (1 << 15) - 1
"""How many elements of a tensor are worked on at once, where that is possible: as many as caches
hold in double precision, and just fewer than torch splits among threads, which takes half of the
time on a free machine and a fraction on a busy one."""


def pieces(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Parts of a tensor that are together the whole one, in order: small ones if it is large.

    >>> list(pieces([2, 3]))
    [(slice(0, 2, None), slice(0, 3, None))]
    """
    if math.prod(shape) <= LARGEST_PIECE:
        yield tuple(slice(0, size) for size in shape)
        return
    row = math.prod(shape[1:])
    step = max(1, LARGEST_PIECE // row)
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        for rest in pieces(shape[1:]) if step == 1 else (tuple(map(slice, shape[1:])),):
            yield slice(start, stop), *rest


def widened(weights: torch.Tensor) -> torch.Tensor:
    """Weights, at least in single precision; absolute values of complex ones."""
    weights = weights.abs() if weights.is_complex() else weights
    return weights if weights.dtype == torch.float64 else weights.float()


def weights_of(
    deps: DependencyGraph, only: Container[str] | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """What `stored_weights` yields, widened, one after another.

    Args:
        deps: the analysis of the model.
        only: the names of parameters, if not all are wanted.
    """
    for name, weights in stored_weights(deps, only):
        yield name, widened(weights)


def stored_weights(
    deps: DependencyGraph, only: Container[str] | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters with channels that some operator reads, detached: a tied one once.

    Args:
        deps: the analysis of the model.
        only: the names of parameters, if not all are wanted.

    Raises:
        InputError: a parameter has no data.
    """
    for name, own in _named_parameters(deps).items():
        if only is None or name in only:
            tensor = own if deps.weights is None else deps.weights[name]
            if tensor.device.type == "meta":
                raise InputError(
                    f"parameter {name} has no data",
                    hint="load the weights, pass weights= to fxprune.plan, or take"
                    ' criterion="random"',
                )
            yield name, tensor.detach()


@contextmanager
def refusing(what: str, hint: str) -> Iterator[None]:
    """Whatever a user's own function raises is an InputError."""
    try:
        yield
    except Exception as error:
        what = f"{what}: {first_line(error)}"
        raise InputError(what, why=type(error).__name__, hint=hint) from error


def parameters_of(deps: DependencyGraph) -> dict[str, torch.Tensor]:
    """As `stored_weights`, those of the model itself, for criteria that run it.

    Raises:
        InputError: a parameter has no data, or is to have other values.
    """
    found = {}
    for name, tensor in _named_parameters(deps).items():
        if tensor.device.type == "meta" or deps.weights is not None:
            raise InputError(
                f"parameter {name} has no data in the model"
                if tensor.device.type == "meta"
                else "the criterion runs the model, whose weights are not those that count",
                why="gradients and activations are of a model with its weights in memory",
                hint="load the weights into the model, or take a criterion of weights alone, such"
                ' as "l2" or "l1", for which fxprune.plan takes weights=',
            )
        found[name] = tensor.detach()
    return found


def _named_parameters(deps: DependencyGraph) -> dict[str, torch.Tensor]:
    """The parameters with channels that some operator reads: a tied one once."""
    trace = deps.trace
    return {
        name: tensor
        for name, tensor in deps.graph_module.named_parameters()
        if name in trace.touched and any(map(trace.labels.leaves, trace.axes[name]))
    }
