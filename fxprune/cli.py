"""The command line: `fxprune analyze | plan | sensitivity | shrink | verify | export | bench`.

`fxprune draw`, `fxprune report` and `fxprune shrink-checkpoint` too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource
from torch.export import ExportedProgram

import fxprune
from fxprune import cli_output as output
from fxprune.api import Emit
from fxprune.cli_bench import bench
from fxprune.cli_checkpoint import shrink_checkpoint
from fxprune.cli_draw import draw, error_picture
from fxprune.cli_export import export
from fxprune.cli_options import (
    FILE,
    check_removal,
    full_option,
    meaning_options,
    model_options,
    output_option,
    removal_options,
)
from fxprune.cli_options import examples as _examples
from fxprune.cli_output import stage
from fxprune.cli_report import ARGUMENTS, report
from fxprune.cli_sensitivity import sensitivity
from fxprune.drawing import check_picture
from fxprune.errors import FxPruneError, VerificationError
from fxprune.inputs import materialize, real_type
from fxprune.interruptions import notes
from fxprune.loading import ModelSource
from fxprune.meaning import Constants, Norm
from fxprune.model_files import PROGRAM, load_model, load_program, save_model, save_program
from fxprune.planning import Plan
from fxprune.programs import export_module
from fxprune.sample_files import read_batches
from fxprune.tensor_files import SUFFIX, library

_EXIT_CODES = """\b
Exit codes:
  0  done
  1  the model, its inputs, its plan or a file is at fault
  2  the command line is at fault
  3  the shrunk model does not compute what the original computes
  130  stopped by Ctrl-C; the message tells what is kept, and how to go on
A command that fails writes no file, but for --draw-error, and leaves an existing one as it is."""


class _Failure(click.ClickException):
    """An error for the user: its text on stderr, without a traceback."""


class _Refutation(_Failure):
    exit_code = 3


class _Stopped(_Failure):
    """Ctrl-C: one line that tells what is kept."""

    exit_code = 130

    def show(self, file: Any = None) -> None:
        """On standard error, below what a bar or `^C` left there."""
        click.echo(f"\nstopped: {self.message}", err=True)


class _Commands(click.Group):
    """Turns the library's errors into messages and exit codes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the command line, for pages that tell how they were made."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except VerificationError as error:
            raise _Refutation(str(error)) from error
        except FxPruneError as error:
            raise _Failure(str(error)) from error
        except KeyboardInterrupt as error:
            raise _Stopped("; ".join(notes(error)) or "no result was written") from error


def _is_given(option: str) -> bool:
    """Whether an option of the command was said, and is not at its default."""
    source = click.get_current_context().get_parameter_source(option)
    return source is not ParameterSource.DEFAULT


def _shrunk_model(small: Path, model: Any, inputs: Any) -> Any:
    """What is in a file that `shrink` wrote."""
    if small.suffix == SUFFIX:
        return fxprune.load(model, small, inputs)
    return load_program(small) if small.suffix == PROGRAM else load_model(small)


@click.group(cls=_Commands, epilog=_EXIT_CODES)
@click.version_option(fxprune.__version__, prog_name="fxprune")
def main() -> None:
    """Remove channels of a PyTorch model for real, and prove the result.

    MODEL is package.module:callable, where the callable takes no arguments and returns a
    torch.nn.Module (or is one), such as torchvision.models:resnet18. Or it is an ONNX file,
    net.onnx; or a program of torch.export, net.pt2, which can run any code when it is read, so it
    needs --trust; or a model of a library, with random weights if there is no --state:
    torchvision:NAME, timm:NAME, or hf:PATH of a config.json of transformers.
    """


main.add_command(export)
main.add_command(bench)
main.add_command(draw)
main.add_command(report)
main.add_command(sensitivity)
main.add_command(shrink_checkpoint)


@main.command(
    epilog=_examples(
        "analyze torchvision.models:resnet18 --input 1x3x224x224",
        "analyze torchvision.models:resnet18 --input 1x3x224x224 --why 'layer4.*' --why fc",
        "analyze torchvision.models:resnet18 --input 1x3x224x224 --why fc --draw fc.svg",
    ),
)
@model_options
@full_option("Fold nothing, and show the members of each group.")
@click.option(
    "--why",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="Tell instead for each axis of a module, parameter or group, or of those that a pattern"
    " such as 'layer3.*' means, whether it can be pruned, and what stops it; can be repeated.",
)
@output_option("A picture of the answer to a single --why.", "--draw", "picture", required=False)
def analyze(
    *,
    source: ModelSource,
    full: bool,
    patterns: tuple[str, ...],
    picture: Path | None,
    as_json: bool,
) -> None:
    """Show which channels of MODEL live and die together, and which must stay."""
    if picture is not None:
        if len(patterns) != 1:
            raise click.UsageError("--draw shows the answer to one --why")
        check_picture(picture)
    with stage("Building the model"):
        model, inputs = source.model(), source.required_inputs()
    with stage("Analyzing"):
        deps = fxprune.analyze(model, inputs)
    if patterns:
        found = [deps.why(pattern) for pattern in patterns]
        if picture is not None:
            found[0].draw(picture)
        if as_json:
            output.show_json({"why": [output.explanation_document(each) for each in found]})
        else:
            click.echo("\n\n".join(each.text(full=full) for each in found))
            if picture is not None:
                click.echo(f"wrote {picture}")
    elif as_json:
        output.show_json(output.analysis_document(deps))
    else:
        output.show(deps, full=full)


@main.command(
    epilog=_examples(
        "plan torchvision.models:resnet18 --input 1x3x224x224 --ratio 0.5 -o plan.json",
        "plan zoo:net --ratio 0.5 --ratios 'stem.*=0.2' --ignore head --round-to 8 -o plan.json",
        "plan zoo:masked --from-masks -o plan.json",
    ),
)
@model_options
@removal_options
@click.option(
    "--from-masks",
    is_flag=True,
    help="Remove instead what masks or zero weights have made useless; `shrink --norm exact"
    " --constants fold` then changes nothing that the model computes.",
)
@full_option("Show every group and what becomes of every layer, each in a row of its own.")
@output_option("The plan's file.")
def plan(
    *,
    source: ModelSource,
    removal: dict[str, Any],
    from_masks: bool,
    full: bool,
    path: Path,
    as_json: bool,
) -> None:
    """Choose the channels of MODEL to remove, and write them to a JSON file.

    Parameters and MACs after are those that `fxprune shrink` leads to.
    """
    if not from_masks:
        check_removal(removal, "--from-masks, ")
    elif removal.keys() - {"ignore"}:
        raise click.UsageError("--from-masks says what to remove: only --ignore goes with it")
    with stage("Building the model"):
        model, inputs = source.model(), source.required_inputs()
    with stage("Planning"):
        if from_masks:
            made = Plan.from_masks(model, inputs, **removal)
            deps = made.analyze(model, inputs)
        else:
            whole = fxprune.analyze(model, inputs)
            made = fxprune.plan(whole, inputs, **removal)
            deps = made.analyze(model, inputs) if made.dropped else whole
    made.save(path)
    if as_json:
        output.show_json(
            {
                "output": str(path),
                "dropped": list(made.dropped),
                **output.cost_document(deps, made),
                "groups": output.widths_document(made.groups),
            }
        )
    else:
        output.show_plan(deps, made, full=full)
        click.echo(f"wrote {path}")


_SAMPLES = 64
"""How many samples of --calibrate are run at once."""


def _samples(path: Path | None, plan: Plan) -> list[Any] | None:
    """The batches of a file for --calibrate, if there is one."""
    return None if path is None else read_batches(path, _SAMPLES, real_type(plan.inputs))


@main.command(
    epilog=_examples(
        "shrink torchvision.models:resnet18 --input 1x3x224x224 --ratio 0.5 -o small.pt",
        "shrink torchvision.models:resnet18 --plan plan.json -o small.pt",
        "shrink zoo:language_model --ratio 0.5 --emit module -o small.safetensors",
        "shrink zoo:net --plan plan.json --calibrate images.npz -o small.pt",
        "shrink net.pt2 --trust --ratio 0.5 -o small.pt2",
    ),
)
@model_options
@removal_options
@click.option("--plan", "plan_path", type=FILE, help="A plan, instead of the options of a new one.")
@click.option(
    "--emit",
    type=click.Choice(("graph", "module", "auto")),
    default="graph",
    show_default=True,
    help="A torch.fx.GraphModule; MODEL's own class with its forward and methods; or what of these"
    " can be made and proved.",
)
@meaning_options
@click.option(
    "--calibrate",
    type=FILE,
    help="Samples (.npz or .safetensors: an array for each input, the first dim counts) by which"
    " layers that read removed channels are repaired; no labels. Real numbers become those of the"
    " model's inputs, float32 say.",
)
@click.option(
    "--fold",
    is_flag=True,
    help="Merge removed channels into kept ones that are like them; without data.",
)
@click.option("--no-verify", is_flag=True, help="Do not prove the result.")
@click.option("--quick", is_flag=True, help="Prove it on the example in the model's types only.")
@full_option("Show every layer and every place that is remarked on, each in a row of its own.")
@output_option("The shrunk model's file.")
@error_picture
def shrink(
    *,
    source: ModelSource,
    removal: dict[str, Any],
    plan_path: Path | None,
    emit: Emit,
    norm: Norm,
    constants: Constants,
    calibrate: Path | None,
    fold: bool,
    no_verify: bool,
    quick: bool,
    full: bool,
    path: Path,
    as_json: bool,
) -> None:
    """Remove channels of MODEL, verify the result, and write it to a file.

    What to remove is said by --plan, or else by --ratio, --ratios, --channels or --drop.

    A file named *.safetensors holds tensors and the plan: fxprune.load(MODEL, file) reads it, and
    runs no code in it.

    A file named *.pt2 holds an exported program, for torch.export.load. If MODEL is one, the sizes
    that are dynamic in it stay dynamic; else the batch is, where the model allows it.

    Any other file holds the model. torch.load(file, weights_only=False) reads it, without fxprune
    (but with the Python module of its class, if that was kept, and with fxprune if blocks of that
    were dropped). These two can run any code in them: load only files you trust.
    """
    if source.is_program and path.suffix != PROGRAM:
        raise click.UsageError(f"a program goes to a file {PROGRAM}, not to {path}")
    if path.suffix == SUFFIX:
        library()  # before the work is done
    if no_verify and quick:
        raise click.UsageError("--quick is a kind of verification: leave out --no-verify")
    if plan_path is None:
        check_removal(removal, "--plan, ")
    elif removal:
        raise click.UsageError("--plan says what to remove: leave out the options of a new plan")
    made = Plan.load(plan_path) if plan_path else None
    with stage("Building the model"):
        model = source.model()
        inputs = source.example_inputs() if made else source.required_inputs()
    if made is None:
        with stage("Planning"):
            made = fxprune.plan(model, inputs, **removal)
    proof: bool | Literal["quick"] = "quick" if quick else not no_verify
    samples = _samples(calibrate, made)
    with stage("Shrinking" if no_verify else "Shrinking and verifying"):
        small: Any = fxprune.shrink(
            model,
            made,
            inputs,
            emit=emit,
            norm=norm,
            constants=constants,
            verify=proof,
            calibrate=samples,
            fold=fold,
        )
    told: fxprune.ShrinkReport = getattr(small, "graph_module", small).meta["fxprune"]
    with stage("Writing"):
        if isinstance(small, ExportedProgram):
            save_program(small, path)
        elif path.suffix == PROGRAM:
            example = materialize(made.inputs, seed=0) if inputs is None else inputs
            save_program(export_module(small, example), path)
        else:
            (fxprune.save if path.suffix == SUFFIX else save_model)(small, path)
    if as_json:
        output.show_json({"output": str(path), **output.report_document(told)})
    else:
        output.show(told, full=full)
        own_class = f", a {type(small).__name__}" if told.emit == "module" else ""
        click.echo(f"wrote {path}{own_class}")


@main.command(
    epilog=_examples(
        "verify torchvision.models:resnet18 small.safetensors",
        "verify torchvision.models:resnet18 small.pt --plan plan.json --trust",
    ),
)
@model_options
@click.argument("small", type=FILE)
@click.option(
    "--plan",
    "plan_path",
    type=FILE,
    help="The plan that SMALL follows; by default that in SMALL, if it is a .safetensors file.",
)
@meaning_options
@click.option("--quick", is_flag=True, help="On the example, in the model's own types only.")
@full_option("Tell why the tolerance is what it is, and why anything was left out.")
@error_picture
def verify(
    *,
    source: ModelSource,
    small: Path,
    plan_path: Path | None,
    norm: Norm,
    constants: Constants,
    quick: bool,
    full: bool,
    as_json: bool,
) -> None:
    """Prove that SMALL, which shrink wrote, computes what MODEL computes for the kept channels.

    Without --input and example_inputs(), random inputs of the plan's shapes are taken.

    A SMALL that is named *.safetensors runs no code, and tells its plan and its meaning.

    Any other SMALL is a whole model: it is read with torch.export.load if it is named *.pt2, else
    with torch.load(SMALL, weights_only=False). Both can run any code in the file. So load only
    files you trust, and say so with --trust.
    """
    is_safe = small.suffix == SUFFIX
    if not (is_safe or source.trust):
        raise click.UsageError(
            f"reading the model {small} can run any code in it: pass --trust if you made it, or"
            " trust whom you have it from"
        )
    if plan_path is None and not is_safe:
        raise click.UsageError("Missing option '--plan'.")
    made = None if plan_path is None else Plan.load(plan_path)
    with stage("Building the model"):
        model, inputs = source.model(), source.example_inputs()
    with stage("Reading the shrunk model"):
        shrunk: Any = _shrunk_model(small, model, inputs)
    if made is None:
        made = shrunk.meta["fxprune"].recipe.plan
    meaning: dict[str, Any] = {"norm": norm, "constants": constants}
    if is_safe:  # what it says of itself, but for what is asked for
        meaning = {name: value for name, value in meaning.items() if _is_given(name)}
    with stage("Verifying"):
        result = fxprune.verify(model, shrunk, made, inputs, quick=quick, **meaning)
    if as_json:
        output.show_json(output.verification_document(result))
    else:
        output.show(result, full=full)
