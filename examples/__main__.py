"""`python -m examples --write` runs the examples and writes docs/examples/NAME.txt.

Each file holds a command and what it printed, and nothing else. The outputs of a notebook go into
the notebook.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from examples.notebooks import NOTEBOOKS, executed, path_of, write_notebook

NAMES = ("perceptron", "weight_table", "mnist", "pretrained", "centerface", "resnet18")
CHECKOUT = Path(__file__).parents[1]
FOLDER = CHECKOUT / "docs" / "examples"


def printed(name: str, *options: str) -> str:
    """What an example prints in a process of its own, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-m", f"examples.{name}", *options]
    return subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def run_notebook(name: str, *, write: bool) -> None:
    """Run a notebook, print the texts of its outputs, and write it if that is asked for."""
    notebook = executed(name)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            click.echo(output.get("text", ""), nl=False)
    if write:
        write_notebook(notebook, path_of(name))


@click.command()
@click.option("--write", is_flag=True, help="Write docs/examples/NAME.txt, or the notebook.")
@click.argument("names", nargs=-1, type=click.Choice((*NAMES, *NOTEBOOKS)))
def main(write: bool, names: tuple[str, ...]) -> None:
    """Run the examples NAMES, or all of them, and print or write what they print."""
    for name in names or (*NAMES, *NOTEBOOKS):
        if name in NOTEBOOKS:
            run_notebook(name, write=write)
            continue
        text = f"$ python -m examples.{name}\n{printed(name)}"
        click.echo(text)
        if write:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
