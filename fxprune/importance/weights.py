"""Criteria that look at weights alone, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.errors import InputError, shown
from fxprune.importance.criterion import Criterion, Elementwise, Evidence, refusing, weights_of

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.importance.criterion import Numbers


@dataclass(frozen=True)
class L1(Elementwise):
    """The sum of the absolute values of all weights of a channel.

    Li et al., Pruning Filters for Efficient ConvNets, 2017, section 3.1, over coupled parameters.
    """

    needs = ""
    comparable = False
    separable = True

    def saliency(self, name: str, weights: torch.Tensor) -> torch.Tensor:
        """|w|."""
        return weights.abs()


@dataclass(frozen=True)
class L2(Elementwise):
    """The root of the sum of the squares of all weights of a channel."""

    needs = ""
    comparable = False
    separable = True

    def saliency(self, name: str, weights: torch.Tensor) -> torch.Tensor:
        """w^2, in float64, where none is 0 or infinite; the root is taken of a channel's sum."""
        return weights.to(torch.float64, copy=True).square_()

    def finished(self, scores: Numbers) -> Numbers:
        """The root of what was added up."""
        root: Numbers = np.sqrt(scores)
        return root


@dataclass(frozen=True)
class LAMP(Elementwise):
    """The square of a weight by the sum of squares of all weights of its parameter not below it.

    Lee et al., Layer-adaptive sparsity for the magnitude-based pruning, 2021, equation 2, whose
    scores compare across layers; those of a channel's weights are added up.
    """

    needs = ""

    def saliency(self, name: str, weights: torch.Tensor) -> torch.Tensor:
        """w^2 / sum of v^2 over the weights v that stand at w or after it, in ascending order."""
        squares = weights.double().square().flatten()
        ordered, order = squares.sort(stable=True)
        remaining = ordered.flip(0).cumsum(0).flip(0)
        scores = torch.zeros_like(squares)
        scores[order] = torch.where(ordered > 0, ordered / remaining, 0.0)
        return scores.view(weights.shape)


@dataclass(frozen=True)
class BatchNormScale(Criterion):
    """The absolute value of the scale of batch norms over a channel.

    Liu et al., Learning Efficient Convolutional Networks through Network Slimming, 2017. Batch
    norms are found by their operators, so in every captured graph; a scale is a parameter that such
    an operator takes as it is. A group without one cannot be scored.
    """

    needs = "a batch norm with a scale"

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """|scale| of each batch norm; a shared one counts once."""
        for name, scale in weights_of(deps, deps.trace.scales):
            yield Evidence(deps.trace.axes[name][0], scale.abs().double().cpu().numpy())


@dataclass(frozen=True)
class Random(Criterion):
    """A random number for each channel.

    Attributes:
        seed: of these numbers (that of `plan` is for `criterion="random"`).
    """

    seed: int = 0
    needs = ""

    def __post_init__(self) -> None:
        seed: Any = self.seed
        if not isinstance(seed, Integral) or seed < 0:
            raise InputError(
                f"the seed is {shown(seed)}", why="it must be a whole number, 0 or more"
            )

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """None: a channel counts by chance, whatever carries it."""
        yield from ()

    def finished(self, scores: Numbers) -> Numbers:
        """A number in [0, 1) for each id."""
        return np.random.default_rng(self.seed).random(len(scores))


@dataclass(frozen=True)
class ByFunction(Elementwise):
    """A criterion of one's own.

    Attributes:
        function: takes the name of a parameter and its values (a detached tensor), and returns how
            much each of them counts: a tensor of the same shape.
    """

    function: Callable[[str, torch.Tensor], torch.Tensor]
    needs = ""

    def __str__(self) -> str:
        return f"ByFunction({getattr(self.function, '__name__', type(self.function).__name__)})"

    def saliency(self, name: str, weights: torch.Tensor) -> torch.Tensor:
        """What the function returns.

        Raises:
            InputError: that is no tensor of the parameter's shape, or not finite.
        """
        hint = "it is called with the parameter's name and its values"
        with refusing(f"the criterion fails for parameter {name}", hint):
            found: Any = self.function(name, weights.clone())
        if not isinstance(found, torch.Tensor) or found.shape != weights.shape:
            kind = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else found
            raise InputError(
                f"the criterion returns {kind} for parameter {name}",
                why=f"it must return a tensor of the parameter's shape, {tuple(weights.shape)}",
            )
        if found.is_complex() or not bool(torch.isfinite(found).all()):
            raise InputError(
                f"the criterion returns values for parameter {name} that are no finite real numbers"
            )
        return found.detach()
