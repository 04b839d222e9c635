"""The command `fxprune sensitivity`."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import click
import torch

import fxprune
from fxprune import cli_output as output
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


@contextmanager
def _processes(count: int) -> Iterator[Executor | None]:
    """An executor with so many processes, which share the processors; none for one."""
    if count == 1:
        yield None
        return
    threads = max(1, (os.cpu_count() or 1) // count)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _set_up, (threads,)) as executor:
        yield executor


def _set_up(threads: int) -> None:
    """What a process starts with: what it prints must not get into a table or JSON."""
    torch.set_num_threads(threads)
    sys.stdout = sys.stderr


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
    with redirect_stdout(sys.stderr), _processes(jobs) as executor:
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
