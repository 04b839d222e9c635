"""A table of weights: small entries become zero, or a whole filter that is small goes.

Run it from the checkout: `python -m examples.weight_table`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import prune

import fxprune
from examples.printing import show, table

# A column is a filter: what one output of a layer takes of its four inputs.
WEIGHTS = torch.tensor(
    [
        [0.1, -0.5, 0.01, 0.2],
        [-0.3, 0.05, 0.001, -0.4],
        [0.2, 0.1, -0.02, 0.03],
        [0.05, -0.2, 0.005, 0.1],
    ]
)
THRESHOLD = 0.05
INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def build() -> nn.Sequential:
    """A layer of these filters, and one that reads its outputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)).eval()
    model[0].weight = nn.Parameter(WEIGHTS.T.clone())  # torch keeps a filter in a row
    return model


def without_small_entries(model: nn.Sequential) -> nn.Sequential:
    """A copy in which the first layer's weights below the threshold are zero."""
    masked = copy.deepcopy(model)
    mask = masked.get_parameter("0.weight").abs() >= THRESHOLD
    prune.custom_from_mask(masked[0], "weight", mask)
    return fxprune.make_permanent(masked)


def filters(title: str, model: nn.Module, names: Sequence[int] = range(4)) -> Table:
    """The filters of the first layer as columns, and the sums of their absolute values."""
    weights = model.get_parameter("0.weight").detach()
    made = table(title, "", *(f"filter {name}" for name in names))
    for number, row in enumerate(weights.T):
        made.add_row(f"input {number}", *numbers(row))
    made.add_section()
    made.add_row("sum of |w|", *numbers(weights.abs().sum(1)))
    return made


def numbers(row: Tensor) -> list[str]:
    """Rounded numbers as text."""
    return [f"{round(number, 6) + 0.0:g}" for number in row.tolist()]  # -0.0 + 0.0 is 0.0


def main() -> None:
    """Print the table, the one without small entries, and the one without the small filter."""
    model = build()
    sparse = without_small_entries(model)
    zeros = fxprune.sparsity(sparse).layers["0"][0]
    show(
        filters("The weights", model),
        filters(f"With the {zeros} entries zeroed that have |w| < {THRESHOLD}", sparse),
    )

    plan = fxprune.plan(model, INPUTS, threshold=THRESHOLD, criterion="l1", reduction="first")
    small = fxprune.shrink(model, plan)
    removed = plan.slices["0.weight"][0]
    kept = [number for number in range(4) if number not in removed]
    show(
        f"Filters whose sum of |w| is below {THRESHOLD}: {list(removed)}",
        filters("The table without them", small, kept),
    )

    useless = fxprune.Plan.from_masks(sparse, INPUTS)
    same = torch.allclose(fxprune.shrink(sparse, useless)(INPUTS), sparse(INPUTS))
    show(
        f"Filters of nothing but zeros in the second table: {list(useless.slices['0.weight'][0])}."
        f" Without them, the outputs are the same: {same}."
    )


if __name__ == "__main__":
    main()
