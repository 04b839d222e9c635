"""Scores of fxprune beside those of Torch-Pruning: `python -m benchmarks.scores`.

Both are computed for every group that Torch-Pruning finds in a chain and in ResNet-18, on the same
weights and the same data. Where both define the same thing the scores must be the same to the
rounding of single precision, in which Torch-Pruning adds up; where they differ, the table says why.
"""

from __future__ import annotations

import copy
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_pruning.pruner import importance as theirs
from torchvision import models

import fxprune
from fxprune import DependencyGraph, importance
from fxprune.importance import Criterion, Normalization, Reduction

TARGET = Path(__file__).parents[1] / "docs" / "scores.md"
EQUAL = 1e-5
"""Scores with a relative difference below this are the same: Torch-Pruning adds up in float32."""
Scores = NDArray[np.float64]
Batches = list[tuple[Tensor, Tensor]]


@dataclass
class Case:
    """A model on which both are run, with data."""

    name: str
    model: nn.Module
    batches: Batches
    deps: DependencyGraph = field(init=False)

    def __post_init__(self) -> None:
        self.deps = fxprune.analyze(self.model, self.batches[0][0])
        modules = self.model.named_modules()
        self.names = {module: name for name, module in modules}

    @cached_property
    def theirs(self) -> list[tuple[str, Any]]:
        """The groups of Torch-Pruning, each with the layer that it is found by."""
        graph = torch_pruning.DependencyGraph().build_dependency(
            self.model, example_inputs=self.batches[0][0]
        )
        last = [module for module in self.names if isinstance(module, nn.Linear)][-1]
        kinds = [nn.Conv2d, nn.Linear]
        groups = graph.get_all_groups(ignored_layers=[last], root_module_types=kinds)
        return [(self.names[group[0].dep.layer], group) for group in groups]

    def ids(self, layer: str) -> NDArray[np.int64]:
        """The id of each output of a layer."""
        (ids,) = self.deps.trace.labels.leaves(self.deps.trace.axes[f"{layer}.weight"][0])
        return ids

    def parameters_of(self, kind: type[nn.Module]) -> set[str]:
        """The names of the parameters of modules of a kind."""
        return {
            f"{name}.{own}"
            for module, name in self.names.items()
            if isinstance(module, kind)
            for own, _ in module.named_parameters(recurse=False)
        }


def case(name: str, model: nn.Module) -> Case:
    """A model with random weights of every kind, so that nothing is equal by chance."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    images = torch.randn(3, 1, 3, 32, 32, generator=generator, dtype=torch.float64)
    batches = [(image, torch.tensor([number])) for number, image in enumerate(images)]
    return Case(name, model.double().eval(), batches)


@cache
def cases() -> tuple[Case, ...]:
    """Convolutions one after another, the last one flattened; and a residual network."""
    torch.manual_seed(0)
    chain = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 5)),
    )
    flat = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 5)),
    )
    residual = models.resnet18(weights=None)
    return case("chain", chain), case("flattened", flat), case("resnet18", residual)


def loss(model: nn.Module, batch: Any) -> Tensor:
    """The mean loss of a batch."""
    return F.cross_entropy(model(batch[0]), batch[1])


def ours(
    case: Case,
    criterion: Criterion,
    reduction: Reduction = "sum",
    leave_out: set[str] | None = None,
) -> Scores:
    """The scores of fxprune, without the evidence of some parameters."""
    axes = case.deps.trace.axes
    left = {id(axis) for name in leave_out or () for axis in axes[name]}
    evidence = (piece for piece in criterion.evidence(case.deps) if id(piece.axis) not in left)
    found = importance.channel_scores(evidence, case.deps.trace.labels, reduction)
    return criterion.finished(found)


def magnitude(p: int, reduction: str, normalizer: str | None = None) -> Callable[[Case], Any]:
    """Torch-Pruning's norms, with biases as fxprune has them."""
    return lambda case: theirs.GroupMagnitudeImportance(p, reduction, normalizer, bias=True)


def normalized_l1(how: Normalization) -> Callable[[Case], Scores]:
    """Our L1 norms, comparable between groups."""

    def scores(case: Case) -> Scores:
        return importance.normalized(ours(case, importance.L1()), case.deps.groups, how)

    return scores


def taylor(case: Case) -> Any:
    """Torch-Pruning's, with the gradients of one batch."""
    case.model.zero_grad()
    loss(case.model, case.batches[0]).backward()
    return theirs.GroupTaylorImportance("sum", None, bias=True)


def our_taylor(case: Case, leave_out: set[str] | None = None) -> Scores:
    """Ours, of one batch."""
    criterion = importance.Taylor(case.batches[:1], loss, progress=False)
    return ours(case, criterion, leave_out=leave_out)


def hessian(case: Case, count: int) -> Any:
    """Torch-Pruning's, with the gradients of some samples."""
    found = theirs.GroupHessianImportance("sum", None, bias=True)
    for batch in case.batches[:count]:
        case.model.zero_grad()
        loss(case.model, batch).backward()
        found.accumulate_grad(case.model)
    return found


def our_fisher(case: Case, samples: slice) -> Scores:
    """Ours, of some samples, twice and without the shifts of batch norms."""
    shifts = {n for n in case.parameters_of(nn.BatchNorm2d) if n.endswith(".bias")}
    criterion = importance.Fisher(case.batches[samples], loss, progress=False)
    return 2 * ours(case, criterion, leave_out=shifts)


def activation(case: Case) -> Any:
    """Torch-Pruning's, of one batch of one sample."""
    found = theirs.ActivationImportance(group_reduction="sum", normalizer=None)
    with torch.no_grad(), found.compute_importance(case.model):
        case.model(case.batches[0][0])
    return found


def with_weights(case: Case, function: Callable[[Tensor], Tensor]) -> Case:
    """A model with other weights."""
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(function(parameter))
    return Case(case.name, model, case.batches)


@dataclass(frozen=True)
class Comparison:
    """A criterion of both.

    Attributes:
        name: what is compared.
        options: of Torch-Pruning's class.
        expression: of our scores, that is to be the same.
        theirs: makes Torch-Pruning's object, for a case.
        ours: our scores, for a case.
        differs: the names of the cases in which scores differ.
        why: they differ there.
        change: what is done to a case first.
    """

    name: str
    options: str
    expression: str
    theirs: Callable[[Case], Any]
    ours: Callable[[Case], Scores]
    differs: tuple[str, ...] = ()
    why: str = ""
    change: Callable[[Case], Case] = lambda case: case

    def measured(self, case: Case) -> tuple[float, float] | None:
        """The largest relative difference, and the lowest rank correlation of a group.

        None if no group has a score in either; infinite if one has another number of scores.
        """
        case = self.change(case)
        scorer, scores = self.theirs(case), self.ours(case)
        differences, correlations = [], []
        for layer, group in case.theirs:
            own = scores[case.ids(layer)]
            found = scorer(group)
            if found is None or np.isnan(own).any():  # neither can tell anything
                assert found is None
                assert np.isnan(own).all()
                continue
            other = found.double().numpy()
            if other.shape != own.shape:
                return math.inf, math.nan
            unit = np.maximum(np.abs(own), np.finfo(np.float32).tiny)  # many scores are 0
            differences.append(float((np.abs(other - own) / unit).max()))
            ranks = [np.argsort(np.argsort(values, kind="stable")) for values in (own, other)]
            correlations.append(float(np.corrcoef(*ranks)[0, 1]))
        return (max(differences), min(correlations)) if differences else None


ALL = ("chain", "flattened", "resnet18")
_NORMS = ("chain", "resnet18")
_FIRST = "theirs is the layer that a group was found by, ours the first parameter of the model"
_MEAN = "theirs divides by layers; ours by positions, of which a flattened channel has several"

COMPARISONS = (
    Comparison(
        "L1, sum", "p=1", "L1", magnitude(1, "sum"), lambda case: ours(case, importance.L1())
    ),
    Comparison(
        *("L1, mean", "p=1", "L1", magnitude(1, "mean")),
        lambda case: ours(case, importance.L1(), "mean"),
        *(("flattened",), _MEAN),
    ),
    Comparison(
        *("L1, max", "p=1", "L1", magnitude(1, "max")),
        lambda case: ours(case, importance.L1(), "max"),
    ),
    Comparison(
        *("L1, first", "p=1", "L1", magnitude(1, "first")),
        lambda case: ours(case, importance.L1(), "first"),
        *(("resnet18",), _FIRST),
    ),
    Comparison(
        *("L2, sum", "p=2", "L2, squared", magnitude(2, "sum")),
        lambda case: ours(case, importance.L2()) ** 2,
    ),
    Comparison(
        *("L1, divided by the mean", 'p=1, normalizer="mean"', 'L1, normalized "mean"'),
        *(magnitude(1, "sum", "mean"), normalized_l1("mean")),
    ),
    Comparison(
        *("L1, divided by the maximum", 'p=1, normalizer="max"', 'L1, normalized "max"'),
        *(magnitude(1, "sum", "max"), normalized_l1("max")),
    ),
    Comparison(
        *("scale of batch norms", "", "BatchNormScale"),
        lambda case: theirs.BNScaleImportance("sum", None),
        lambda case: ours(case, importance.BatchNormScale()),
    ),
    Comparison(
        *("geometric median", "default", "GeometricMedian"),
        lambda case: theirs.FPGMImportance(group_reduction="sum", normalizer=None),
        lambda case: ours(case, importance.GeometricMedian()),
        *(ALL, "theirs are distances between squared weights (p=2), which is not He et al."),
    ),
    Comparison(
        *("geometric median, of weights without sign", "p=1", "GeometricMedian"),
        lambda case: theirs.FPGMImportance(1, "sum", None),
        lambda case: ours(case, importance.GeometricMedian()),
        change=lambda case: with_weights(case, torch.abs),
    ),
    Comparison(
        *("geometric median", "default", "GeometricMedian of squared weights"),
        lambda case: theirs.FPGMImportance(group_reduction="sum", normalizer=None),
        lambda case: ours(with_weights(case, torch.square), importance.GeometricMedian()),
    ),
    Comparison(
        *("LAMP", "default", "LAMP"),
        lambda case: theirs.LAMPImportance(group_reduction="sum", bias=True),
        lambda case: ours(case, importance.LAMP()),
        *(ALL, "theirs divides the L2 scores of a group's channels, ours (Lee et al.) weights"),
    ),
    Comparison(
        *("Taylor", "", "Taylor", taylor, our_taylor, _NORMS),
        "theirs leaves out batch norms (its branch for them asks for group norms)",
    ),
    Comparison(
        *("Taylor", "", "Taylor, without batch norms", taylor),
        lambda case: our_taylor(case, case.parameters_of(nn.BatchNorm2d)),
    ),
    Comparison(
        *("Hessian, one sample", "", "twice Fisher, without shifts of batch norms"),
        *(lambda case: hessian(case, 1), lambda case: our_fisher(case, slice(1))),
    ),
    Comparison(
        *("Hessian, three samples", "", "twice Fisher, without shifts of batch norms"),
        *(lambda case: hessian(case, 3), lambda case: our_fisher(case, slice(3))),
        *(ALL, "theirs keeps the squared gradient of the last sample only"),
    ),
    Comparison(
        *(
            "Hessian, three samples",
            "",
            "twice Fisher of the last one, without shifts of batch norms",
        ),
        *(lambda case: hessian(case, 3), lambda case: our_fisher(case, slice(2, 3))),
    ),
    Comparison(
        *("mean activation, one sample", "", 'Activation("mean")', activation),
        lambda case: ours(case, importance.Activation(case.batches[:1], progress=False)),
        *(("flattened",), "theirs has a number for each input of the flattened layer"),
    ),
)


def cell(comparison: Comparison, case: Case) -> str:
    """One cell of the table."""
    found = comparison.measured(case)
    if found is None:
        return "no scores"
    difference, correlation = found
    if difference < EQUAL:
        return f"equal ({difference:.0e})"
    if math.isinf(difference):
        return "differs (in number)"
    return f"differs (rank correlation {correlation:.2f})"


def main() -> None:
    """Compare, print the table, and write it."""
    versions = f"Torch-Pruning {torch_pruning.__version__}, torch {torch.__version__.split('+')[0]}"
    lines = [
        "# Scores beside those of Torch-Pruning",
        "",
        "For every group of three models, on the same weights and the same data. `equal` tells the",
        f"largest relative difference of all channels, below {EQUAL:.0e}; else the lowest rank",
        "correlation of a group is told. In `flattened`, each channel of a convolution has four",
        "positions in the next layer. Theirs with `bias=True` (biases are left out by default),",
        '`normalizer=None` and `group_reduction="sum"` unless it says otherwise. Torch-Pruning has',
        "no cosine, APoZ or variance. What has no batch norm has no such score in either.",
        "",
        f"{versions}, Python {platform.python_version()}.",
        "Written by `python -m benchmarks.scores`.",
        "",
        f"| criterion | theirs | ours | {' | '.join(case.name for case in cases())} | why |",
        "| --- " * (len(cases()) + 4) + "|",
    ]
    print("\n".join(lines))
    for each in COMPARISONS:
        cells = " | ".join(cell(each, case) for case in cases())
        lines.append(f"| {each.name} | {each.options} | {each.expression} | {cells} | {each.why} |")
        print(lines[-1], flush=True)
    TARGET.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
