"""The command `fxprune report`."""

from __future__ import annotations

import functools
import shlex
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import click
from torch.export import ExportedProgram

import fxprune
from fxprune import cli_output as output
from fxprune.api import Emit
from fxprune.cli_jobs import processes
from fxprune.cli_options import (
    FILE,
    Command,
    examples,
    meaning_options,
    model_options,
    output_option,
    parsed,
    with_options,
)
from fxprune.cli_output import stage
from fxprune.errors import InputError
from fxprune.exporting import program_module
from fxprune.inputs import materialize
from fxprune.loading import ModelName, ModelSource
from fxprune.meaning import Constants, Norm
from fxprune.measurements import Comparison
from fxprune.model_files import save_model
from fxprune.planning import Plan
from fxprune.planning.sensitivity_data import Sensitivity
from fxprune.reports import Tradeoff
from fxprune.reports.extras import check_same_model, digest_of
from fxprune.runtimes import Candidate, Settings, compare
from fxprune.tradeoffs import ORIGINAL, tradeoff

ARGUMENTS = "fxprune.arguments"
"""By this name the context knows the command line."""
_SUFFIXES = (".html", ".htm", ".md")


def _candidate(text: str) -> tuple[str, float | None]:
    """A plan's file, and what it is worth if that is said."""
    path, equals, value = text.rpartition("=")
    if not equals or Path(text).is_file():
        return text, None
    try:
        return path, float(value)
    except ValueError:
        raise InputError(
            f"{text!r} is not of the form PLAN or PLAN=VALUE", hint="write plan.json=0.71"
        ) from None


def _function(text: str | None) -> ModelName | None:
    return None if text is None else ModelName.parse(text)


@dataclass(frozen=True)
class _Extras:
    """What a page tells besides what shrinking did."""

    sensitivity: Path | None
    candidates: tuple[tuple[str, float | None], ...]
    evaluate: ModelName | None
    baseline: float | None
    metric: str
    mode: Literal["max", "min"]
    bench: Path | None
    measure: bool
    jobs: int
    resume: Path | None

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            UsageError: they do not.
        """
        names = [name for name, _ in self.candidates]
        valued = [name for name, value in self.candidates if value is not None]
        if self.bench is not None and self.measure:
            raise click.UsageError("--bench has latencies already: leave out --measure")
        if len(set(names)) < len(names):
            raise click.UsageError("a --candidate is named twice")
        if self.evaluate is not None and not names:
            raise click.UsageError("--evaluate is for candidates: name some with --candidate")
        if self.evaluate is None and (self.jobs > 1 or self.resume is not None):
            raise click.UsageError("--jobs and --resume are for --evaluate, which is not there")
        if self.evaluate is not None and (valued or self.baseline is not None):
            raise click.UsageError("--evaluate finds values out: leave out those that are said")
        if self.baseline is not None and not valued:
            raise click.UsageError("--baseline goes with values: write --candidate plan.json=0.71")

    def read(self, plan: Plan) -> dict[str, Any]:
        """What files tell, as the arguments of `to_html`; faults in them are told before the work.

        Raises:
            InputError, PlanError: a file is of another kind, or of another model than the plan.
        """
        found: dict[str, Any] = {}
        if self.sensitivity is not None:
            found["sensitivity"] = Sensitivity.load(self.sensitivity)
            check_same_model(found["sensitivity"], plan.groups, digest_of(plan))
        if self.bench is not None:
            found["latency"] = Comparison.load(self.bench)
        for name, _ in self.candidates:
            Plan.load(name)
        return found

    def values(self) -> dict[str, float] | None:
        """What candidates are worth, if that is said of any."""
        known = {name: value for name, value in self.candidates if value is not None}
        if self.baseline is not None:
            known[ORIGINAL] = self.baseline
        return known or None


_EXTRAS = (
    click.option(
        "--sensitivity", type=FILE, help="Show the curves that `fxprune sensitivity` wrote."
    ),
    click.option(
        "--candidate",
        "candidates",
        metavar="PLAN[=VALUE]",
        multiple=True,
        callback=parsed(_candidate),
        help="Show the trade-off of plans, and what each is worth: as said here, or as --evaluate"
        " finds, or else by the squares of the weights that it leaves; can be repeated.",
    ),
    click.option(
        "--evaluate",
        metavar="MODULE:FUNCTION",
        callback=parsed(_function),
        help="A function that takes a model and returns its value, found like MODEL.",
    ),
    click.option(
        "--baseline", type=float, help="What MODEL is worth, beside values of candidates."
    ),
    click.option(
        "--metric", default="value", show_default=True, help="What values are, such as accuracy."
    ),
    click.option(
        "--mode",
        type=click.Choice(("max", "min")),
        default="max",
        show_default=True,
        help="Whether values are better if they are larger (max) or smaller.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Processes that evaluate candidates.",
    ),
    click.option(
        "--resume",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A file to keep the values of candidates in, and to go on from after a stop.",
    ),
    click.option(
        "--bench", type=FILE, help="Show the latencies that `fxprune bench --json` printed."
    ),
    click.option(
        "--measure", is_flag=True, help="Measure the latency of MODEL and of the result instead."
    ),
)


def _extra_options(command: Command) -> Command:
    """The options that say what else the page tells, handed on as `extras`."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        extras = _Extras(**{each.name: options.pop(each.name) for each in fields(_Extras)})
        command(extras=extras, **options)

    return with_options(run, _EXTRAS)


@click.command(
    epilog=examples(
        "report torchvision.models:resnet18 --plan plan.json -o report.html",
        "report zoo:net --plan plan.json --sensitivity curves.json --measure -o report.html",
        "report zoo:net --plan a.json --candidate a.json=0.71 --candidate b.json=0.69"
        " --metric accuracy -o report.md",
    ),
)
@model_options
@click.option("--plan", "plan_path", type=FILE, required=True, help="What is removed.")
@click.option(
    "--emit",
    type=click.Choice(("graph", "module", "auto")),
    default="graph",
    show_default=True,
    help="The kind of result, as for shrink.",
)
@meaning_options
@click.option("--no-verify", is_flag=True, help="Do not prove the result; the page says so.")
@click.option("--quick", is_flag=True, help="Prove it on the example in the model's types only.")
@click.option("--title", help="Of the page.  [default: Pruning report: MODEL]")
@_extra_options
@output_option("The page (.html or .md).")
@click.pass_context
def report(
    ctx: click.Context,
    *,
    source: ModelSource,
    plan_path: Path,
    emit: Emit,
    norm: Norm,
    constants: Constants,
    no_verify: bool,
    quick: bool,
    title: str | None,
    extras: _Extras,
    path: Path,
    as_json: bool,
) -> None:
    """Shrink MODEL by a plan, prove the result, and write a page on it for a pull request.

    An .html needs no other file: cost, layers, proof, what must stay and why, and plots where
    matplotlib is installed. An .md is for a comment on GitHub, and always short enough for one.
    """
    if path.suffix not in _SUFFIXES:
        raise click.UsageError(f"{path} does not end with .html or .md")
    if no_verify and quick:
        raise click.UsageError("--quick is a kind of verification: leave out --no-verify")
    extras.check()
    plan = Plan.load(plan_path)
    found = extras.read(plan)
    with stage("Building the model"):
        model, inputs = source.model(), source.example_inputs()
        evaluate = None if extras.evaluate is None else source.function(extras.evaluate)
    proof: bool | Literal["quick"] = "quick" if quick else not no_verify
    options: dict[str, Any] = {"emit": emit, "norm": norm, "constants": constants}
    with stage("Shrinking" if no_verify else "Shrinking and verifying"):
        small: Any = fxprune.shrink(model, plan, inputs, verify=proof, **options)
    if extras.candidates:
        found["candidates"] = _tradeoff(extras, model, inputs, evaluate, verify=proof, **options)
    if extras.measure:
        found["latency"] = _measured(source, small, plan, inputs)
    made: fxprune.ShrinkReport = getattr(small, "graph_module", small).meta["fxprune"]
    write = made.to_markdown if path.suffix == ".md" else made.to_html
    command = shlex.join(["fxprune", *ctx.meta.get(ARGUMENTS, ())])
    write(path, title=title or f"Pruning report: {_name(source)}", command=command, **found)
    if as_json:
        output.show_json({"output": str(path), **output.report_document(made)})
    else:
        click.echo(f"wrote {path}")


def _tradeoff(extras: _Extras, model: Any, inputs: Any, evaluate: Any, **options: Any) -> Tradeoff:
    """The candidates; a bar tells how far `evaluate` is."""
    plans = {name: name for name, _ in extras.candidates}
    told = {"metric": extras.metric, "mode": extras.mode, "values": extras.values(), **options}
    told["verify"] = options["verify"] and "quick"
    if evaluate is None:
        with stage("Holding candidates against one another"):
            return tradeoff(model, plans, inputs, **told)
    with redirect_stdout(sys.stderr), processes(extras.jobs) as executor:
        return tradeoff(
            *(model, plans, inputs),
            evaluate=evaluate,
            executor=executor,
            pending=extras.jobs,
            resume=extras.resume,
            progress=True,
            **told,
        )


def _name(source: ModelSource) -> str:
    """The model as the page calls it: of a file without its folder."""
    return source.name.name if isinstance(source.name, Path) else str(source.name)


def _measured(source: ModelSource, small: Any, plan: Plan, inputs: Any) -> Comparison:
    """The latency of the model and of the result, each in a process of its own."""
    values = materialize(plan.inputs, seed=0) if inputs is None else inputs
    with TemporaryDirectory() as folder, output.stages() as progress:
        file = Path(folder) / "small.pt"
        save_model(program_module(small) if isinstance(small, ExportedProgram) else small, file)
        models: tuple[tuple[str, ModelSource | Path], ...] = (
            (_name(source), source),
            ("shrunk", file),
        )
        candidates = [Candidate(name, "eager", model, values) for name, model in models]
        return compare(candidates, Settings(), progress)
