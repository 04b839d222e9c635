"""Shrink two networks with their published weights, and see how far they still agree.

Nothing is fine-tuned: this is what is left of what they learned right after pruning. Channels are
chosen by the L1 norm of their weights, in each group alone and over groups, and by how much they
move the outputs of the dense network on a few inputs without labels.

Run it from the checkout: `python -m examples.pretrained` (it takes some minutes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import torch
from rich.table import Table
from torch import Tensor, nn

import fxprune
from examples import lite0, minilm
from examples.printing import show, table
from fxprune import importance
from fxprune.cost import Cost
from fxprune.planning.strategies import Scope

SHARES = (0.9, 0.8, 0.7, 0.5)
BATCH = 8


@dataclass(frozen=True)
class Trial:
    """A network, and what to try with it.

    Attributes:
        model: the dense network.
        choosing: its arguments, to choose channels with, each [n, ...].
        comparing: its arguments, to compare outputs on.
        scope: what is ranked together, where it is not each group alone.
        agreement: from the dense outputs and those of a shrunk network to named shares.
    """

    model: nn.Module
    choosing: tuple[Tensor, ...]
    comparing: tuple[Tensor, ...]
    scope: Scope
    agreement: Callable[[Tensor, Tensor], dict[str, str]]

    def run(self, title: str, shares: tuple[float, ...]) -> Table:
        """A row for the dense network, and three for each share of its MACs that may be left."""
        dense = outputs(self.model, self.comparing)
        same = self.agreement(dense, dense)
        made = table(title, "asked", "chosen by", "ranked in", "parameters", "MACs", *same, left=3)
        example = tuple(part[:BATCH] for part in self.choosing)
        deps = fxprune.analyze(self.model, example)
        moved = importance.Fisher(self.directions(), moves, progress=False)
        choices: list[tuple[str, str | importance.Criterion, Scope]] = [
            ("L1", "l1", "group"),
            ("L1", "l1", self.scope),
            ("outputs", moved, self.scope),
        ]
        for share in shares:
            for name, criterion, scope in choices:
                target = {"macs": share}
                plan = fxprune.plan(deps, target=target, criterion=criterion, scope=scope)
                small: Any = fxprune.shrink(deps, plan, example, emit="module", verify="quick")
                report: fxprune.ShrinkReport = small.meta["fxprune"]
                if not made.rows:
                    made.add_row("dense", "", "", *cost(report.before), *same.values())
                found = self.agreement(dense, outputs(small, self.comparing))
                made.add_row(f"{share:.0%}", name, scope, *cost(report.after), *found.values())
            made.add_section()
        return made

    def directions(self) -> list[tuple[Tensor, ...]]:
        """Batches to choose with; last in each are random directions of the outputs."""
        like = outputs(self.model, self.choosing)
        random = torch.randn(like.shape, generator=torch.Generator().manual_seed(0))
        parts = (part.split(BATCH) for part in (*self.choosing, random))
        return list(zip(*parts, strict=True))


def moves(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """How far outputs lie in random directions.

    On average, the square of its gradient is the curvature of half the squared distance to the
    dense outputs.
    """
    *arguments, directions = batch
    return torch.as_tensor((model(*arguments) * directions).sum(1).mean())


@torch.no_grad()
def outputs(model: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor:
    """What a network returns for all rows of its arguments."""
    parts = (part.split(BATCH) for part in arguments)
    return torch.cat([model(*batch) for batch in zip(*parts, strict=True)])


def cost(found: Cost) -> tuple[str, str]:
    """Parameters and MACs of one input, in millions."""
    return f"{found.parameters / 1e6:.2f} M", f"{found.macs / BATCH / 1e6:.0f} M"


def classes(dense: Tensor, small: Tensor) -> dict[str, str]:
    """How often the first class is the dense network's, and how often that is among five."""
    first = dense.argmax(1, keepdim=True)
    most = small.topk(5).indices
    return {
        "same class": f"{(most[:, :1] == first).float().mean():.1%}",
        "in first five": f"{(most == first).any(1).float().mean():.1%}",
    }


def neighbours(dense: Tensor, small: Tensor) -> dict[str, str]:
    """How alike embeddings are, and how often the nearest other sentence is the same."""
    nearest = [(all_ @ all_.T).fill_diagonal_(-1).argmax(1) for all_ in (dense, small)]
    return {
        "cosine": f"{(dense * small).sum(1).mean():.3f}",
        "same neighbour": f"{(nearest[0] == nearest[1]).float().mean():.1%}",
    }


def classifier(choosing: int, comparing: int) -> Trial:
    """EfficientNet-Lite0 on parts of photos."""
    return Trial(
        lite0.load(),
        (lite0.crops(choosing, "left", seed=0),),
        (lite0.crops(comparing, "right", seed=1),),
        "global",
        classes,
    )


def encoder(choosing: int, comparing: int) -> Trial:
    """MiniLM-L6-v2 on sentences; those to choose with are spread over all of them."""
    model, *read = minilm.load(choosing + comparing)
    step = (choosing + comparing) // choosing
    first = torch.arange(choosing + comparing) % step == 0
    chosen, others = (tuple(part[mask] for part in read) for mask in (first, ~first))
    return Trial(model, chosen, others, "isomorphic", neighbours)


@click.command()
@click.option("--quick", is_flag=True, help="One share of MACs, and few inputs.")
def main(quick: bool) -> None:
    """Print a table for each network."""
    torch.set_num_threads(1)  # sums in the same order give the same numbers
    choosing, comparing = (8, 16) if quick else (40, 200)
    shares = SHARES[:1] if quick else SHARES
    show(
        f"EfficientNet-Lite0: {choosing} square parts of the left halves of scikit-learn's two"
        f" photos to choose channels with, {comparing} of the right halves to compare on."
        " No fine-tuning.",
        classifier(choosing, comparing).run("EfficientNet-Lite0, ImageNet weights", shares),
    )
    show(
        f"MiniLM-L6-v2: {choosing} sentences of Python's language reference to choose channels"
        f" with, {comparing} others to compare on. No fine-tuning.",
        encoder(choosing, comparing).run("MiniLM-L6-v2, published weights", shares),
    )


if __name__ == "__main__":
    main()
