"""`python -m fuzz`: random programs, and what became of them."""

from __future__ import annotations

import sys
import time

import click
import torch

from fuzz.search import search
from fuzz.summary import Summary

BATCH = 100


@click.command()
@click.option("--examples", default=5000, show_default=True, help="How many programs to run.")
@click.option("--seed", default=0, show_default=True, help="Where the programs start.")
def main(*, examples: int, seed: int) -> None:
    """Run random programs by random plans; fail if any result is wrong."""
    torch.set_num_threads(1)  # the tensors are tiny
    summary, start = Summary(), time.perf_counter()
    for first in range(0, examples, BATCH):
        failure = search(min(BATCH, examples - first), seed + first // BATCH, summary)
        seconds = time.perf_counter() - start
        click.echo(f"[{summary.programs}/{examples}] {dict(summary.outcomes)}, {seconds:.0f} s")
        if failure is not None:
            click.echo(f"\n{failure}")
    click.echo(f"\n{summary}")
    sys.exit(bool(summary.failures))


if __name__ == "__main__":
    main()
