"""`python -m examples --write` runs the examples and writes docs/examples/NAME.txt.

Each file holds a command and what it printed, and nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

NAMES = ("perceptron", "weight_table", "mnist", "pretrained", "centerface")
CHECKOUT = Path(__file__).parents[1]
FOLDER = CHECKOUT / "docs" / "examples"


def printed(name: str, *options: str) -> str:
    """What an example prints in a process of its own, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-m", f"examples.{name}", *options]
    return subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


@click.command()
@click.option("--write", is_flag=True, help="Write docs/examples/NAME.txt.")
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
def main(write: bool, names: tuple[str, ...]) -> None:
    """Run the examples NAMES, or all of them, and print or write what they print."""
    for name in names or NAMES:
        text = f"$ python -m examples.{name}\n{printed(name)}"
        click.echo(text)
        if write:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
