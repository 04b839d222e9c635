"""Torch-Pruning at a share of MACs: all its criteria by weights and gradients, in every scope."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torch_pruning.pruner import importance as theirs

LARGEST = 0.95  # of a layer that may go; Torch-Pruning divides scores by their mean
STEPS = 10
"""Of the bisection: the ratio is found to a thousandth."""
CRITERIA: dict[str, Callable[[], Any]] = {
    "L2": partial(theirs.MagnitudeImportance, p=2),
    "LAMP": partial(theirs.LAMPImportance, p=2),
    "BN scale": theirs.BNScaleImportance,
    "Taylor": theirs.TaylorImportance,
    "Hessian": theirs.HessianImportance,
}
GRADIENTS = ("Taylor", "Hessian")
"""Those that look at inputs."""
SCOPES: dict[str, dict[str, bool]] = {
    "each layer": {},
    "global": {"global_pruning": True},
    "isomorphic": {"global_pruning": True, "isomorphic": True},
}
Batch = tuple[Tensor, ...]
"""Arguments of a model, and what its outputs are held against."""
Loss = Callable[[nn.Module, Batch], Tensor]
"""From a model and a batch to the mean of a number for each row."""


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """The mean cross-entropy of a batch, whose labels come last."""
    *arguments, labels = batch
    return F.cross_entropy(model(*arguments), labels)


def macs(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates for some inputs, those of attention with them."""
    plain = sdpa_kernel(SDPBackend.MATH)  # a fused one counts as nothing on the CPU
    with plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return int(counter.get_total_flops()) // 2


def last_layer(model: nn.Module) -> dict[str, Any]:
    """Options that keep the layer that makes the outputs as wide as it is."""
    return {"ignored_layers": [[m for m in model.modules() if isinstance(m, nn.Linear)][-1]]}


@torch.no_grad()
def estimate_norms(model: nn.Module, batches: Sequence[tuple[Tensor, ...]]) -> bool:
    """Let batch norms have the statistics of some inputs, all of which count alike.

    Returns:
        Whether there are any.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for batch in batches if norms else ():
        model(*batch)
    model.eval()
    return bool(norms)


@dataclass(frozen=True)
class Rival:
    """Torch-Pruning with a criterion, ready to prune a model.

    Attributes:
        model: the original, with gradients if the criterion is by gradients.
        scored: the criterion.
        example: arguments, one row of each.
        own: from a copy of the model to options of the pruner that name its layers.
        mend: corrects what a pruned copy's code says of its sizes, in place.
    """

    model: nn.Module
    scored: Any
    example: tuple[Tensor, ...]
    own: Callable[[nn.Module], dict[str, Any]] = last_layer
    mend: Callable[[nn.Module], object] = nn.Module.eval

    @classmethod
    def of(
        cls,
        criterion: str,
        model: nn.Module,
        example: tuple[Tensor, ...],
        batches: Sequence[Batch],
        loss: Loss,
        **options: Any,
    ) -> Rival:
        """One of `CRITERIA`; those by gradients see all batches.

        Args:
            criterion: its name.
            model: the original, of which a copy is taken.
            example: arguments to trace it with.
            batches: arguments, and what the loss takes besides.
            loss: whose gradients those criteria take.
            **options: `own` and `mend`.
        """
        model, scored = copy.deepcopy(model), CRITERIA[criterion]()
        if criterion in GRADIENTS:
            _accumulate(model, batches, loss, scored)
        return cls(model, scored, tuple(argument[:1] for argument in example), **options)

    def within(self, share: float, scope: str) -> nn.Module | None:
        """The largest network within a share of the MACs, found by bisection; None if none is.

        Args:
            share: of the model's MACs.
            scope: one of `SCOPES`.
        """
        limit = share * macs(self.model, *self.example)
        low, high = 0.0, 1.0
        best: nn.Module | None = None
        for _ in range(STEPS):
            ratio = (low + high) / 2
            small = self._pruned(ratio, scope)
            if macs(small, *self.example) <= limit:
                high, best = ratio, small
            else:
                low = ratio
        return best

    def _pruned(self, ratio: float, scope: str) -> nn.Module:
        small, criterion = copy.deepcopy((self.model, self.scored))  # which has parameters as keys
        for own, whole in zip(small.parameters(), self.model.parameters(), strict=True):
            own.grad = whole.grad
        pruner = torch_pruning.pruner.BasePruner(
            small,
            self.example,
            importance=criterion,
            pruning_ratio=ratio,
            max_pruning_ratio=LARGEST,
            **SCOPES[scope],
            **self.own(small),
        )
        pruner.step()
        self.mend(small)
        return small


def _accumulate(model: nn.Module, batches: Sequence[Batch], loss: Loss, scored: Any) -> None:
    """Gradients, as the documentation of Torch-Pruning has it."""
    model.zero_grad()
    if isinstance(scored, theirs.HessianImportance):
        scored.zero_grad()
        for batch in batches:
            for row in zip(*(part.split(1) for part in batch), strict=True):
                model.zero_grad()
                loss(model, row).backward()
                scored.accumulate_grad(model)
        return
    for batch in batches:
        loss(model, batch).backward()
