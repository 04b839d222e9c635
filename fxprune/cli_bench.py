"""The command `fxprune bench`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, TypeGuard

import click

from fxprune import cli_output as output
from fxprune.cli_options import (
    AnyName,
    completions,
    examples,
    output_option,
    parsed,
    source_options,
)
from fxprune.cli_output import stage
from fxprune.errors import InputError
from fxprune.images import check_image
from fxprune.inputs import InputSpec, materialize
from fxprune.loading import ModelSource, parse_model
from fxprune.model_files import load_model
from fxprune.runtimes import (
    RUNTIMES,
    Candidate,
    Runtime,
    Settings,
    compare,
    draw_chart,
)

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
Model: TypeAlias = ModelSource | Path


def _model(text: str) -> AnyName:
    """A file if it has the suffix of one, else a name."""
    if not text.endswith(".pt"):
        return parse_model(text)
    path = Path(text)
    if not path.is_file():
        raise InputError(f"there is no file {text}")
    return path


def _runtimes(text: str) -> tuple[Runtime, ...]:
    given = text.split(",")
    found = tuple(runtime for runtime in RUNTIMES if runtime in given)
    if set(found) != set(given):
        raise InputError(f"{text!r} does not list runtimes", hint=f"of {', '.join(RUNTIMES)}")
    return found


def _bytes(text: str | None) -> int | None:
    """The bytes in a text such as 512MB or 1.5GiB."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Z]*)", text.strip().upper(), re.ASCII)
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise InputError(f"{text!r} is no amount of memory", hint="write 512MB or 1.5GiB")
    return int(float(match[1]) * _UNITS[match[2]])


@click.command(
    epilog=examples(
        "bench zoo:net small.pt --input 1x3x224x224 --trust",
        "bench zoo:net small.pt small.int8.onnx --runtime eager,onnxruntime --trust",
        "bench zoo:net small.pt --memory-limit 512MB --chart bench.svg --trust",
    ),
)
@click.argument(
    "models",
    nargs=-1,
    required=True,
    metavar="MODEL...",
    callback=parsed(_model),
    shell_complete=completions,
)
@source_options
@click.option(
    "--runtime",
    "runtimes",
    default="eager",
    show_default=True,
    callback=parsed(_runtimes),
    help=f"Of {', '.join(RUNTIMES)}, with commas between them.",
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Of every process."
)
@click.option(
    "--memory-limit",
    metavar="SIZE",
    callback=parsed(_bytes),
    help="End a process that holds more, such as 512MB.",
)
@click.option(
    "--rounds",
    type=click.IntRange(5),
    default=30,
    show_default=True,
    help="How often each is timed.",
)
@output_option("An image (.svg, .png ...) of the result.", "--chart", "chart", required=False)
def bench(
    *,
    models: tuple[AnyName, ...],
    source: Callable[[AnyName], ModelSource],
    inputs: tuple[InputSpec, ...],
    runtimes: tuple[Runtime, ...],
    threads: int,
    memory_limit: int | None,
    rounds: int,
    trust: bool,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Compare latency, peak memory and size of models side by side.

    MODEL is as for the other commands, or a .pt that shrink wrote. For onnxruntime, models that are
    no .onnx are exported.

    Every model runs in a process of its own, in every runtime that it can run in, and all are timed
    in turns. The first in each runtime is what the others are compared with; a difference is called
    one only if nine of ten rounds agree on it.
    """
    if chart is not None:
        check_image(chart)
    if not trust and any(str(model).endswith(".pt") for model in models):
        raise click.UsageError(
            "reading a .pt file can run any code in it: pass --trust if you made it, or trust whom"
            " you have it from"
        )
    sources = [model if _is_pickled(model) else source(model) for model in models]
    values = materialize(inputs, seed=0) if inputs else _offered(sources)
    settings = Settings(threads=threads, rounds=rounds, memory_limit=memory_limit)
    with _candidates(sources, runtimes, values) as candidates, output.stages() as progress:
        found = compare(candidates, settings, progress)
    if as_json:
        output.show_json(found.to_document())
    else:
        output.show_comparison(found)
    if chart is not None:
        draw_chart(found, chart)
    if any(each.failure for each in found.measurements):
        raise click.exceptions.Exit(1)


def _is_pickled(model: AnyName) -> TypeGuard[Path]:
    return isinstance(model, Path) and model.suffix == ".pt"


@contextmanager
def _candidates(
    models: Sequence[Model], runtimes: Sequence[Runtime], inputs: Any
) -> Iterator[list[Candidate]]:
    """Every model in every runtime; exported files are there until the end."""
    found = []
    with TemporaryDirectory() as folder:
        for runtime in runtimes:
            for number, model in enumerate(models):
                named = model.name if isinstance(model, ModelSource) else model
                name = named.name if isinstance(named, Path) else str(named)
                runs: Model = model
                if runtime == "onnxruntime":
                    with stage(f"Exporting {name}"):
                        runs = _onnx_file(model, inputs, Path(folder) / f"{number}.onnx")
                found.append(Candidate(name, runtime, runs, inputs))
        yield found


def _onnx_file(model: Model, inputs: Any, path: Path) -> Path:
    """The model's own file if it is one of ONNX, else what it is exported to."""
    name = model.name if isinstance(model, ModelSource) else model
    if isinstance(name, Path) and name.suffix == ".onnx":
        return name
    from fxprune.onnx import export  # noqa: PLC0415  # an extra

    module = model.module() if isinstance(model, ModelSource) else load_model(model)
    return export(module, path, inputs, dynamic={}).path


def _offered(models: Sequence[Model]) -> Any:
    """The example inputs of the first model that has some."""
    for model in models:
        if isinstance(model, ModelSource) and (inputs := model.example_inputs()) is not None:
            return inputs
    raise InputError(
        "there are no inputs to call the models on",
        hint="pass --input 1x3x224x224, once for each argument",
    )
