"""The command `fxprune shrink-checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

import fxprune
from fxprune import cli_output as output
from fxprune.cli_options import FILE, check_removal, examples, model_options, removal_options
from fxprune.cli_output import stage, stages
from fxprune.loading import ModelSource
from fxprune.planning import Plan
from fxprune.streaming.folders import check_target
from fxprune.tensor_files import library


@click.command(
    "shrink-checkpoint",
    epilog=examples(
        "shrink-checkpoint hf:llama llama small --ratio 0.25 --uniform",
        "shrink-checkpoint hf:llama llama small --plan plan.json --workers 2",
        "shrink-checkpoint nets:build weights.safetensors small --input 1x3x224x224 --ratio 0.5",
    ),
)
@model_options
@removal_options
@click.argument("in_dir", metavar="IN_DIR", type=click.Path(exists=True, path_type=Path))
@click.argument("out_dir", metavar="OUT_DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--plan", "plan_path", type=FILE, help="A plan, instead of the options of a new one.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many files are written at a time.",
)
@click.option("--verify", is_flag=True, help="Load both checkpoints at the end, and compare them.")
@click.option("--quick", is_flag=True, help="As --verify, by the quick checks only.")
def shrink_checkpoint(
    *,
    source: ModelSource,
    removal: dict[str, Any],
    in_dir: Path,
    out_dir: Path,
    plan_path: Path | None,
    workers: int,
    verify: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """Remove channels from a checkpoint that may be larger than memory.

    IN_DIR has model.safetensors, or model.safetensors.index.json and the files that it names; it
    can be the path of such a file, too. MODEL is built without data; for a checkpoint of
    transformers it is hf:IN_DIR. What to remove is said by --plan, or by the options of a new plan,
    which reads the weights one after another.

    OUT_DIR is a new folder. Until it is whole, it has a file fxprune-incomplete.json; the same
    command again goes on where it was. IN_DIR is never written to.
    """
    library()  # before the work is done
    if plan_path is None:
        check_removal(removal, "--plan, ")
    elif removal:
        raise click.UsageError("--plan says what to remove: leave out the options of a new plan")
    made = Plan.load(plan_path) if plan_path else None
    check_target(in_dir, out_dir)
    with stage("Building the model"):
        model = source.empty()
        inputs = source.example_inputs() if made else source.required_inputs()
    if made is None:
        with stage("Planning"):
            made = fxprune.plan(model, inputs, weights=in_dir, **removal)
    proof: bool | Literal["quick"] = "quick" if quick else verify
    with stages() as tell:
        report = fxprune.shrink_checkpoint(
            model,
            in_dir,
            out_dir,
            made,
            inputs,
            workers=workers,
            verify=proof,
            progress=lambda progress: tell(str(progress)),
        )
    if as_json:
        output.show_json(output.checkpoint_document(report))
    else:
        output.show_checkpoint(report)
        click.echo(f"wrote {out_dir}")
