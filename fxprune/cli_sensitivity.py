"""The command `fxprune sensitivity`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import click

import fxprune
from fxprune import cli_output as output
from fxprune.cli_jobs import processes
from fxprune.cli_options import (
    evaluate_option,
    examples,
    full_option,
    model_options,
    output_option,
    sensitivity_options,
)
from fxprune.cli_output import stage
from fxprune.images import check_image
from fxprune.loading import ModelName, ModelSource


@click.command(
    epilog=examples(
        "sensitivity zoo:net --evaluate zoo:accuracy --resume points.json -o curves.json",
        "sensitivity zoo:net --evaluate zoo:loss --mode min --jobs 4 --plot curves.svg",
    ),
)
@model_options
@evaluate_option
@sensitivity_options
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that evaluate."
)
@click.option("--no-verify", is_flag=True, help="Do not prove the shrunk models.")
@full_option("Show every group on its own, and up to 200 ratios.")
@output_option("The file for `plan --sensitivity`.", "-o", "--output", "path", required=False)
@output_option("An image (.svg, .png ...) of the result.", "--plot", "image", required=False)
def sensitivity(
    *,
    source: ModelSource,
    evaluate: ModelName,
    measuring: dict[str, Any],
    jobs: int,
    no_verify: bool,
    full: bool,
    path: Path | None,
    image: Path | None,
    as_json: bool,
) -> None:
    """Measure what MODEL is worth without a share of the channels of each of its groups."""
    if image is not None:
        check_image(image)
    with stage("Building the model"):
        model, inputs = source.model(), source.required_inputs()
        function = source.function(evaluate)
    proof: Literal["quick", False] = False if no_verify else "quick"
    with redirect_stdout(sys.stderr), processes(jobs) as executor:
        found = fxprune.sensitivity(
            model, inputs, function, executor=executor, pending=jobs, verify=proof, **measuring
        )
    if path is not None:
        found.save(path)
    if image is not None:
        found.plot(image)
    if as_json:
        click.echo(found.to_json())
    else:
        output.show(found, full=full)
