"""Shrink a small network that was trained on real handwritten digits, and see what it costs.

Run it from the checkout: `python -m examples.demo` (or `make demo`).
"""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import fxprune
from models_zoo.digits import Split, load, load_split

RATIOS = (0.25, 0.5, 0.625)


def accuracy(model: nn.Module, data: Split) -> str:
    """Share of held-out digits whose largest logit is the right one."""
    with torch.no_grad():
        right = model(data.held_out_images).argmax(1) == data.held_out_labels
    return f"{right.float().mean():.1%}"


def main() -> None:
    """Shrink at several ratios and print a table, then the report of the first."""
    model, data = load(), load_split()
    example = data.train_images[:1]
    table = Table(title=f"{len(data.held_out_labels)} held-out digits, no fine-tuning")
    for column in ("channels removed", "parameters", "MACs", "accuracy", "worst error in proof"):
        table.add_column(column, justify="right")
    reports: list[fxprune.ShrinkReport] = []
    for ratio in RATIOS:
        plan = fxprune.plan(model, example, ratio)
        small = fxprune.shrink(model, plan, example)
        report = small.meta["fxprune"]
        if not reports:
            before = report.before
            table.add_row(
                "0%", f"{before.parameters:,}", f"{before.macs:,}", accuracy(model, data), ""
            )
        after, error = report.after, report.verification.relative
        table.add_row(
            f"{ratio:.1%}",
            f"{after.parameters:,}",
            f"{after.macs:,}",
            accuracy(small, data),
            f"{error:.0e}",
        )
        reports.append(report)
    console = Console()
    console.print(table)
    console.print(f"\nReport at {RATIOS[1]:.0%}:")
    print(reports[1])


if __name__ == "__main__":
    main()
