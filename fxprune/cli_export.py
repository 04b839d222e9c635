"""The command `fxprune export`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.table import Table

import fxprune
from fxprune import cli_output as output
from fxprune.api import Emit
from fxprune.cli_options import (
    FILE,
    examples,
    meaning_options,
    model_options,
    open_sizes,
    output_option,
)
from fxprune.cli_output import stage
from fxprune.files import put_in_place
from fxprune.inputs import materialize
from fxprune.loading import ModelSource
from fxprune.meaning import Constants, Norm
from fxprune.planning import Plan

if TYPE_CHECKING:
    from fxprune.onnx.stages import Stage

_CALLS = 8
"""How many random inputs files are compared on."""


@click.command(
    epilog=examples(
        "export torchvision.models:resnet18 --plan plan.json -o small.onnx",
        "export zoo:net --plan plan.json -o small.onnx --int8 --calibration images.npz",
        "export net.onnx --plan plan.json -o small.onnx --dynamic 0=batch --dynamic 2=height",
    ),
)
@model_options
@click.option("--plan", "plan_path", type=FILE, required=True, help="What to remove.")
@click.option(
    "--emit",
    type=click.Choice(("graph", "module", "auto")),
    default="graph",
    show_default=True,
    help="What is exported: a graph, MODEL's own class, or what of these can be made and proved.",
)
@meaning_options
@click.option(
    "--dynamic",
    metavar="DIM=NAME",
    multiple=True,
    callback=open_sizes,
    help="A size that is left open, such as 0=batch or 2=height; can be repeated; none for none."
    "  [default: the batch, and what the ONNX file that MODEL is leaves open]",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Write NAME.int8.onnx too: with --calibration static, 8-bit weights and activations; else"
    " dynamic, 8-bit weights.",
)
@click.option(
    "--calibration",
    type=FILE,
    help="Inputs (.npz or .safetensors: an array for each input, the first dim counts) that --int8"
    " is calibrated on and the files are compared on; else these are random.",
)
@click.option("--quick", is_flag=True, help="Prove the shrunk model by the quick checks only.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Calls of each file for its latency.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads of ONNX Runtime for latency.",
)
@output_option("The ONNX file of the shrunk model.")
def export(
    *,
    source: ModelSource,
    plan_path: Path,
    emit: Emit,
    norm: Norm,
    constants: Constants,
    dynamic: Mapping[int, str] | None,
    int8: bool,
    calibration: Path | None,
    quick: bool,
    rounds: int,
    threads: int,
    path: Path,
    as_json: bool,
) -> None:
    """Shrink MODEL by a plan, verify it, and write it as an ONNX file that computes the same.

    The file is checked against the shrunk model in ONNX Runtime. Size, latency and agreement of the
    dense model, the shrunk one and that of 8 bits are shown side by side. Needs fxprune[onnx].
    """
    from fxprune.onnx import export as write  # noqa: PLC0415 - its packages may be missing
    from fxprune.onnx import quantize  # noqa: PLC0415
    from fxprune.onnx.stages import read_calls, stages  # noqa: PLC0415

    if source.is_program:
        raise click.UsageError("a program cannot be exported: pass the model that it was made of")
    plan = Plan.load(plan_path)
    with stage("Building the model"):
        model, inputs = source.module(), source.example_inputs()
    proof: Literal["quick", True] = "quick" if quick else True
    with stage("Shrinking and verifying"):
        small: Any = fxprune.shrink(
            model, plan, inputs, emit=emit, norm=norm, constants=constants, verify=proof
        )
    with tempfile.TemporaryDirectory(prefix="fxprune-") as folder:
        files = {name: Path(folder, f"{name}.onnx") for name in ("dense", "pruned")}
        with stage("Exporting"):
            given = materialize(plan.inputs, seed=0) if inputs is None else inputs
            write(model, files["dense"], given, dynamic=dynamic)
            written = write(small, files["pruned"], dynamic=dynamic)
        calls = read_calls(calibration, files["pruned"]) if calibration else _random_calls(small)
        if int8:
            with stage("Quantizing"):
                files["int8"] = Path(folder, "int8.onnx")
                quantize(files["pruned"], files["int8"], calls if calibration else None)
        with stage("Comparing"):
            found = stages(files, calls, rounds=rounds, threads=threads)
        targets = {"pruned": path, "int8": path.with_suffix(".int8.onnx")}
        if written.data is not None:
            shutil.move(written.data, path.parent / written.data.name)
        for name, target in targets.items():
            if name in files:
                put_in_place(files[name], target)
    outputs = {name: str(target) for name, target in targets.items() if name in files}
    _show(found, outputs, len(calls), calibration, as_json=as_json)


def _random_calls(small: Any) -> list[Any]:
    """Random inputs as the report describes them."""
    from fxprune.onnx.calls import Call  # noqa: PLC0415 - its packages may be missing

    specs: Mapping[str, Any] = small.meta["fxprune"].inputs
    made = [materialize(tuple(specs.values()), seed=seed) for seed in range(_CALLS)]
    return [Call.of(small, dict(zip(specs, values, strict=True))).values for values in made]


def _show(
    found: Sequence[Stage],
    outputs: Mapping[str, str],
    calls: int,
    calibration: Path | None,
    *,
    as_json: bool,
) -> None:
    compared = f"{calls} {'calls of ' + str(calibration) if calibration else 'random inputs'}"
    if as_json:
        document = {"outputs": outputs, "compared_on": compared}
        output.show_json({**document, "stages": [asdict(each) for each in found]})
        return
    table = Table("file", "bytes", "ms", "against", "max error", "relative", "same argmax")
    for column in (*table.columns[1:3], *table.columns[4:]):
        column.justify = "right"
    for each in found:
        own = (each.name, f"{each.size:,}", f"{each.latency:.3g}")
        for row, (other, agreement) in enumerate(each.against.items() or [("", None)]):
            numbers = ("", "", "")
            if agreement is not None:
                share = agreement.same_argmax
                shown = "-" if share is None else f"{share:.1%}"
                numbers = (f"{agreement.largest:.3g}", f"{agreement.relative:.2%}", shown)
            table.add_row(*(own if row == 0 else ("", "", "")), other, *numbers)
    output.show_table(table)
    click.echo(f"compared on {compared}; ms: the median of one call in ONNX Runtime")
    for target in outputs.values():
        click.echo(f"wrote {target}")
