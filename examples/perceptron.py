"""Prune half of one layer's weights of a perceptron at random, and make that permanent.

Run it from the checkout: `python -m examples.perceptron`.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from rich.table import Table
from torch import nn

import fxprune
from examples.printing import show, table


def build() -> nn.Sequential:
    """100 inputs, 50 hidden units, 10 outputs."""
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(fc1=nn.Linear(100, 50), relu=nn.ReLU(), fc2=nn.Linear(50, 10))
    ).eval()


def prune() -> dict[str, nn.Sequential]:
    """The model before, with half of fc1's weights pruned, and with that made permanent."""
    dense = build()
    masked = fxprune.sparsify(dense, 0.5, "layer", method="random", ignore=["fc2"])
    return {"dense": dense, "pruned": masked, "permanent": fxprune.make_permanent(masked)}


def counts(models: dict[str, nn.Sequential]) -> Table:
    """How many weights of each layer are not zero."""
    reports = [fxprune.sparsity(model) for model in models.values()]
    shown = table("Weights that are not zero, of all", "layer", *models)
    for name in reports[0].layers:
        layers = [report.layers[name] for report in reports]
        shown.add_row(name, *(f"{total - zeros:,} / {total:,}" for zeros, total in layers))
    shown.add_section()
    sums = [(report.zeros, report.total) for report in reports]
    shown.add_row("both", *(f"{total - zeros:,} / {total:,}" for zeros, total in sums))
    return shown


def tensors(models: dict[str, nn.Sequential]) -> Table:
    """The names of what fc1 holds."""
    shown = table("Tensors of fc1", "model", "parameters", "buffers", left=3)
    for name, model in models.items():
        layer = model.get_submodule("fc1")
        parameters = sorted(key for key, _ in layer.named_parameters())
        buffers = sorted(key for key, _ in layer.named_buffers())
        shown.add_row(name, ", ".join(parameters), ", ".join(buffers) or "none")
    return shown


def main() -> None:
    """Print both tables, and whether the outputs stay when it is made permanent."""
    models = prune()
    inputs = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    same = torch.equal(models["pruned"](inputs), models["permanent"](inputs))
    show(counts(models), tensors(models), f"Pruned and permanent give the same outputs: {same}")


if __name__ == "__main__":
    main()
