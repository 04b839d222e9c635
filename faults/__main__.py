"""Inject every named fault, see who notices, and write the tables of docs/correctness.md."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from faults.catalogue import FAULTS
from faults.fault import Fault
from faults.rendering import render, replaced
from faults.running import Row, try_fault

TARGET = Path(__file__).parents[1] / "docs" / "correctness.md"


@click.command()
@click.option("--only", metavar="TEXT", help="Only faults whose name has this; nothing is written.")
def main(*, only: str | None) -> None:
    """Try all named faults; the exit status is 1 if one is not noticed as it should be."""
    torch.set_num_threads(1)
    chosen = [fault for fault in FAULTS if only is None or only in fault.name]
    rows = run(chosen)
    if only is None:
        document = TARGET.read_text(encoding="utf-8")
        TARGET.write_text(replaced(document, render(rows)), encoding="utf-8")
        click.echo(f"wrote {TARGET.name}")
    sys.exit(report(rows))


def run(faults: Sequence[Fault]) -> list[Row]:
    """Try faults one after another, and tell of each."""
    rows = []
    for count, fault in enumerate(faults, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of models of the zoo
            row = try_fault(fault)
        rows.append(row)
        click.echo(f"[{count:3}/{len(faults)}] {row.outcome}: {fault.name} {row.where}".rstrip())
    return rows


def report(rows: Sequence[Row]) -> int:
    """Say what is not as it should be; the exit status."""
    for row in (row for row in rows if not row.is_as_expected):
        meaning = {
            "missed": "the result is another one, and it verifies: a hole, or no fault",
            "without effect": "the result is the same as without the fault",
        }.get(row.outcome, f"it should have been {row.fault.expected}")
        click.echo(f"{row.fault.name}: {row.outcome}: {meaning}", err=True)
    right = sum(row.is_as_expected for row in rows)
    click.echo(f"{right} of {len(rows)} faults are noticed as they should be")
    return int(right < len(rows))


if __name__ == "__main__":
    main()
