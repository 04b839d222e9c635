"""Run the sweep and write docs/coverage.md."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from sweeps.catalogue import LIBRARIES, catalogue, matches
from sweeps.entry import SweepModel
from sweeps.rendering import outcome, render
from sweeps.rows import Row, row_file
from sweeps.running import Measure, preload, run_all

# What every model of a library imports, and takes seconds.
_SLOW_IMPORTS = (
    "sweeps.running",
    "torchvision.models",
    "timm.models",
    "transformers.models.auto.modeling_auto",
    "transformers.modeling_utils",
    "torch.export",
)
_TARGET = Path(__file__).parents[1] / "docs" / "coverage.md"


@click.command()
@click.option("--only", multiple=True, metavar="PATTERN", help="Models to run: timm/*, *bert*.")
@click.option("--jobs", default=2, show_default=True, help="Models to run at the same time.")
@click.option("--timeout", default=900.0, show_default=True, help="Seconds for each model.")
@click.option("--resume", is_flag=True, help="Keep the rows that an earlier run left.")
@click.option("--largest", type=float, help="Skip models of more million parameters.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write; docs/coverage.md if all models ran, else nowhere.",
)
def main(
    *,
    only: Sequence[str],
    jobs: int,
    timeout: float,
    resume: bool,
    largest: float | None,
    output: Path | None,
) -> None:
    """Run every model of torchvision, timm and transformers, and write docs/coverage.md."""
    models = [m for lib in LIBRARIES for m in catalogue(lib).values() if matches(m.key, only)]
    if not models:
        raise click.ClickException(f"no model matches {', '.join(only)}")
    files = {library: row_file(library) for library in LIBRARIES}
    known = {key: row for file in files.values() for key, row in file.read().items()}
    rows = {m.key: known[m.key] for m in models if resume and m.key in known}
    preload(_SLOW_IMPORTS)
    waiting = [model for model in models if model.key not in rows]
    click.echo(f"{len(models)} models, {len(rows)} of them known")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    task = Measure(threads, None if largest is None else int(largest * 1e6))
    for count, (model, row) in enumerate(
        run_all(waiting, task, jobs=jobs, timeout=timeout), start=len(rows) + 1
    ):
        _tell(f"[{count:3}/{len(models)}]", model, row)
        if row is not None:
            files[model.library].append(row)
            rows[model.key] = row
    complete = not only and len(rows) == len(models)
    target = output or (_TARGET if complete else None)
    if target is not None:
        ordered = [rows[model.key] for model in models if model.key in rows]
        target.write_text(render(ordered, timeout), encoding="utf-8")
        click.echo(f"wrote {target}")


def _tell(place: str, model: SweepModel, row: Row | None) -> None:
    if row is None:
        click.echo(f"{place} {model.key}: skipped, too large")
        return
    cut = "" if row.cut is None else f", {row.cut:.1%} cut"
    error = "" if row.error is None else f", error {row.error:.0e}"
    click.echo(f"{place} {model.key}: {outcome(row)}{cut}{error}, {row.seconds or 0:.1f} s")


if __name__ == "__main__":
    main()
