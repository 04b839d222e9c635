"""Measure the mutation score, and write it to docs/correctness.md."""

from __future__ import annotations

from pathlib import Path

import click

from mutation.mutants import PACKAGES, ROOT, sample
from mutation.rendering import render, replaced, score
from mutation.rows import append, read
from mutation.running import preload, run_all

TARGET = ROOT / "docs" / "correctness.md"
SIZE, SEED = 150, 20


@click.command()
@click.option("--size", default=SIZE, show_default=True, help="How many mutants, in equal parts.")
@click.option("--seed", default=SEED, show_default=True, help="Chooses the mutants.")
@click.option("--jobs", default=1, show_default=True, help="Mutants to try at the same time.")
@click.option("--limit", default=90.0, show_default=True, help="CPU seconds for each.")
@click.option(
    "--rows",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that results are added to; mutants that it has are not tried again.",
)
@click.option("--again", is_flag=True, help="Try those again that survived.")
def main(*, size: int, seed: int, jobs: int, limit: float, rows: Path | None, again: bool) -> None:
    """Try random mutants of labels, rules and passes, and write docs/correctness.md.

    The full sample only is written; with another size or seed the score is told.
    """
    each = size // len(PACKAGES)
    mutants = [mutant for package in PACKAGES for mutant in sample([package], each, seed)]
    known = read(rows)
    if again:
        known = {m: result for m, result in known.items() if result.outcome != "survived"}
    results = {mutant: known[mutant] for mutant in mutants if mutant in known}
    waiting = [mutant for mutant in mutants if mutant not in results]
    click.echo(f"{len(mutants)} mutants, {len(results)} of them known")
    preload()
    for result in run_all(waiting, jobs, limit):
        append(rows, [result])
        results[result.mutant] = result
        place = f"[{len(results):3}/{len(mutants)}]"
        click.echo(f"{place} {result.outcome} {result.seconds:.0f} s: {result.mutant}")
    ordered = [results[mutant] for mutant in mutants]
    click.echo(f"score {score(ordered):.1%}")
    if (size, seed) == (SIZE, SEED):
        document = TARGET.read_text(encoding="utf-8")
        TARGET.write_text(replaced(document, render(ordered, seed)), encoding="utf-8")
        click.echo(f"wrote {TARGET.name}")


if __name__ == "__main__":
    main()
