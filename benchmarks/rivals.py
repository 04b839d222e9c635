"""Torch-Pruning at a share of MACs: all its criteria by weights and gradients, in every scope."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning
from torch import Tensor, nn
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
SCOPES: dict[str, dict[str, bool]] = {
    "each layer": {},
    "global": {"global_pruning": True},
    "isomorphic": {"global_pruning": True, "isomorphic": True},
}
Batches = list[tuple[Tensor, Tensor]]
"""Inputs and labels."""


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean cross-entropy of a batch."""
    return F.cross_entropy(model(batch[0]), batch[1])


def macs(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates for some inputs, counted alike for every tool."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


def last_layer(model: nn.Module) -> dict[str, Any]:
    """Options that keep the layer that makes the outputs as wide as it is."""
    return {"ignored_layers": [[m for m in model.modules() if isinstance(m, nn.Linear)][-1]]}


@dataclass(frozen=True)
class Rival:
    """One way to prune by Torch-Pruning.

    Attributes:
        make: makes the criterion.
        options: of the pruner, by name.
        own: from a model to options that name its layers.
        mend: corrects what the model's code says of its sizes, in place.
    """

    make: Callable[[], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    own: Callable[[nn.Module], dict[str, Any]] = last_layer
    mend: Callable[[nn.Module], object] = nn.Module.eval

    def within(self, share: float, model: nn.Module, batches: Batches) -> nn.Module:
        """The largest network within a share of the MACs, found by bisection.

        Args:
            share: of the model's MACs.
            model: the original; it gets gradients.
            batches: what criteria by gradients see.

        Raises:
            RuntimeError: there is none.
        """
        example = batches[0][0][:1]
        limit = share * macs(model, example)
        scored = self.make()
        if isinstance(scored, (theirs.TaylorImportance, theirs.HessianImportance)):
            _accumulate(model, batches, scored)
        low, high, best = 0.0, 1.0, None
        for _ in range(STEPS):
            ratio = (low + high) / 2
            small = self._pruned(model, example, scored, ratio)
            if macs(small, example) <= limit:
                high, best = ratio, small
            else:
                low = ratio
        if best is None:
            raise RuntimeError("Torch-Pruning finds no network within the MACs")
        return best

    def _pruned(self, model: nn.Module, example: Tensor, scored: Any, ratio: float) -> nn.Module:
        small, criterion = copy.deepcopy((model, scored))  # which keeps gradients by parameter
        for own, whole in zip(small.parameters(), model.parameters(), strict=True):
            own.grad = whole.grad
        pruner = torch_pruning.pruner.BasePruner(
            small,
            example,
            importance=criterion,
            pruning_ratio=ratio,
            max_pruning_ratio=LARGEST,
            **self.options,
            **self.own(small),
        )
        pruner.step()
        self.mend(small)
        return small


def rivals() -> Iterator[tuple[str, Rival]]:
    """Every criterion in every scope, by name."""
    for criterion, make in CRITERIA.items():
        for scope, options in SCOPES.items():
            yield f"{criterion}, {scope}", Rival(make, options)


def _accumulate(model: nn.Module, batches: Batches, scored: Any) -> None:
    """Gradients, as the documentation of Torch-Pruning has it."""
    model.zero_grad()
    if isinstance(scored, theirs.HessianImportance):
        scored.zero_grad()
        for images, labels in batches:
            for each in F.cross_entropy(model(images), labels, reduction="none"):
                model.zero_grad()
                each.backward(retain_graph=True)
                scored.accumulate_grad(model)
        return
    for batch in batches:
        loss(model, batch).backward()
