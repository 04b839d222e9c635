"""Get a module of your own class back, smaller, with attributes that tell the new widths.

Run it from the checkout: `python -m examples.custom_fixer`. docs/custom_rules.md explains it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import fxprune
from fxprune.fixers import Widths


class GatedBlock(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.cut = inner
        self.expand = nn.Linear(width, 2 * inner)
        self.contract = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.expand(x).split(self.cut, dim=-1)
        return x + self.contract(values * gates.sigmoid())


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 24), nn.Linear(24, 5)
        self.blocks = nn.ModuleList(GatedBlock(24, 32) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x) if x.sum().item() > 0 else -block(x)
        return self.head(x)

    def predict(self, x: Tensor) -> Tensor:
        return self(x).argmax(-1)


def build() -> Classifier:
    torch.manual_seed(0)
    return Classifier().eval()


def register() -> None:
    @fxprune.fixer(GatedBlock)
    def gated_block(module: GatedBlock, widths: Widths) -> dict[str, Any]:
        return {"cut": module.contract.weight.shape[1]}


def main() -> None:
    model, example = build(), torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    plan = fxprune.plan(model, example, ratio=0.5)

    print("Without a fixer, the result is refused:\n")
    try:
        fxprune.shrink(model, plan, example, emit="module")
    except fxprune.RewriteError as error:
        print(error, "\n")

    register()
    small = fxprune.shrink(model, plan, example, emit="module")
    found = small.predict(example).tolist()
    print(f"With one, it is a {type(small).__name__} that predicts {found}")
    print(small.blocks[0].expand, "cut at", small.blocks[0].cut)
    print(small.meta["fxprune"].verification)


if __name__ == "__main__":
    main()
