"""The command `fxprune draw`, and pictures of errors for the other commands."""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import fxprune
from fxprune import cli_output as output
from fxprune.cli_options import FILE, Command, examples, model_options, output_option
from fxprune.cli_output import stage
from fxprune.drawing import Level, check_picture
from fxprune.errors import FxPruneError
from fxprune.loading import ModelSource
from fxprune.planning import Plan


@click.command(
    epilog=examples(
        "draw torchvision.models:resnet18 --input 1x3x224x224 -o resnet18.svg",
        "draw torchvision.models:resnet18 --plan plan.json --around layer3.0 --hops 2 -o part.png",
        "draw torchvision.models:resnet18 --input 1x3x224x224 -o resnet18.html",
        "draw zoo:net --group 'blocks.0.attn[heads]' --level op -o heads.svg",
    ),
)
@model_options
@click.option("--plan", "plan_path", type=FILE, help="Show what this plan removes.")
@click.option(
    "--level",
    type=click.Choice(("module", "op")),
    default="module",
    show_default=True,
    help="What a node is: a module with what belongs to it, or each operator.",
)
@click.option("--group", metavar="NAME", help="Only the nodes that carry this group of channels.")
@click.option("--around", metavar="NAME", help="Only what is near this module or node.")
@click.option(
    "--hops",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="How many edges away --around goes.",
)
@click.option("--no-fold", is_flag=True, help="Draw blocks that are all the same one by one.")
@output_option("The picture (.html, .svg, .png, .pdf or .dot).", "-o", "--out", "path")
def draw(
    *,
    source: ModelSource,
    plan_path: Path | None,
    level: Level,
    group: str | None,
    around: str | None,
    hops: int,
    no_fold: bool,
    path: Path,
    as_json: bool,
) -> None:
    """Draw MODEL: what is coupled to what, what must stay and why, what a plan removes.

    Nodes of one colour put out the same group of channels; hatched channels must stay; edges tell
    the widths before and after the plan. A page (.html) is one file to look around in with a
    browser: search, boxes that open and close, a slider over ratios. Images are laid out by
    Graphviz, or by graphviz-pure of fxprune[viz], pages by netron of fxprune[viz].
    """
    check_picture(path)
    plan = None if plan_path is None else Plan.load(plan_path)
    with stage("Building the model"):
        model = source.model()
        inputs = source.required_inputs() if plan is None else source.example_inputs()
    with stage("Drawing"):
        picture = fxprune.draw(
            *(model, path, plan, inputs),
            level=level,
            group=group,
            around=around,
            hops=hops,
            fold=not no_fold,
        )
    if as_json:
        output.show_json(
            {"output": str(path), **asdict(picture), "outside": sorted(picture.outside)}
        )
    else:
        click.echo(f"wrote {path}")


def error_picture(command: Command) -> Command:
    """Add the option that draws the place of an error."""

    @functools.wraps(command)
    def run(*, failure: Path | None, **options: Any) -> None:
        if failure is not None:
            check_picture(failure)  # before the work is done
        try:
            command(**options)
        except FxPruneError as error:
            if failure is not None:
                _draw(error, failure)
            raise

    option = output_option(
        "If the result is refused or refuted: a picture (.svg, .png, .pdf or .dot) of the place.",
        *("--draw-error", "failure"),
        required=False,
        when="Nothing is written if all goes well.",
    )
    return option(run)


def _draw(error: FxPruneError, path: Path) -> None:
    """Draw an error and say so. That it cannot be drawn must not hide the error itself."""
    try:
        error.draw(path)
    except FxPruneError as refusal:
        click.echo(f"no picture of the error: {refusal}", err=True)
    else:
        click.echo(f"wrote {path}", err=True)
