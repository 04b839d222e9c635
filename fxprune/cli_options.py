"""The options that the commands share, and what their texts mean."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import click
from click.shell_completion import CompletionItem

from fxprune.errors import InputError
from fxprune.importance import CRITERIA, NORMALIZATIONS, REDUCTIONS
from fxprune.inputs import InputSpec
from fxprune.loading import ModelName, ModelSource, parse_input, parse_model
from fxprune.model_libraries import PREFIXES, LibraryModel, names
from fxprune.planning import SCOPES
from fxprune.planning.sensitivity_data import MODES

Command: TypeAlias = Callable[..., None]
AnyName: TypeAlias = ModelName | LibraryModel | Path
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def parsed(parse: Callable[[str], Any]) -> Callable[..., Any]:
    """A callback that parses the text, or the texts, of a parameter."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            several = param.multiple or param.nargs == -1
            return tuple(map(parse, value)) if several else parse(value)
        except InputError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not (name and equals and value):
        raise InputError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _named_ratio(text: str) -> tuple[str, float]:
    name, value = _assignment(text)
    try:
        return name, float(value)
    except ValueError as error:
        raise InputError(f"the ratio {value!r} in {text!r} is not a number") from error


def _ratios(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(ratio) for ratio in text.split(",")]
    except ValueError as error:
        raise InputError(f"the ratios {text!r} are not like 0.25,0.5") from error


def _named_channels(text: str) -> tuple[str, list[int]]:
    name, value = _assignment(text)
    try:
        return name, [int(channel) for channel in value.split(",")]
    except ValueError as error:
        raise InputError(f"the channels {value!r} in {text!r} are not like 1,5,7") from error


def _named_strategy(text: str) -> tuple[str, dict[str, Any]]:
    name, colon, options = text.partition(":")
    if not (name and colon and options):
        raise InputError(f"{text!r} is not of the form PATTERN:OPTION=VALUE,...")
    return name, {key: _plain(value) for key, value in map(_assignment, options.split(","))}


def _plain(text: str) -> int | float | str:
    """A number, if it is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _by_name(given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """What was said of each name, in the order of the last times; several lists add up."""
    found: dict[str, Any] = {}
    for name, value in given:
        before = found.pop(name, None)
        if isinstance(value, list):
            found[name] = [*(before or []), *value]
        elif isinstance(value, dict):
            found[name] = {**(before or {}), **value}
        else:
            found[name] = value
    return found


def open_sizes(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[int, str] | None:
    """The dims that a callback finds in DIM=NAME, none of "none", and None if nothing is given."""
    if not texts:
        return None
    found = {}
    for text in texts:
        dim, equals, name = text.partition("=")
        if equals and dim.isdecimal() and name.isidentifier():
            found[int(dim)] = name
        elif texts != ("none",):
            raise click.BadParameter(f"{text!r} is not of the form 0=batch")
    return found


class _Multiple(click.IntRange):
    """An integer in a range, "host" or "auto"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the text means."""
        if value in ("host", "auto"):
            return value
        if isinstance(value, str) and not value.lstrip("+-").isdigit():
            self.fail(f'{value!r} is neither a number, nor "host", nor "auto".', param, ctx)
        return super().convert(value, param, ctx)


def _writable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a path that could not be written, before the work."""
    if path is None:
        return None
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise click.BadParameter(f"{path} exists and is not a file")
    if not target.parent.is_dir():
        raise click.BadParameter(f"the folder {target.parent} does not exist")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written")
    return path


def _switch(name: str, what: str) -> Callable[[Command], Command]:
    """The options --name and --no-name, None if neither is given."""
    return click.option(f"--{name}/--no-{name}", default=None, help=what)


def completions(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What MODEL can go on with: the names of a library, or a file."""
    prefix, colon, start = incomplete.partition(":")
    if colon and prefix in ("torchvision", "timm"):
        try:
            known = names(prefix)
        except InputError:
            return []
        return [CompletionItem(f"{prefix}:{name}") for name in known if name.startswith(start)]
    found = [CompletionItem(f"{each}:") for each in PREFIXES if f"{each}:".startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


_SOURCE_OPTIONS = (
    click.option(
        "--input",
        "inputs",
        metavar="SHAPE[:DTYPE[:HIGH]]",
        multiple=True,
        callback=parsed(parse_input),
        help="An example input, once for each argument of the model: 1x3x224x224, or 2x16:int64"
        " (zeros), or 2x16:int64:1000 (random integers below 1000). Without it,"
        " example_inputs() of the model's Python module is called, and a model of a library is"
        " given what it is made for, where that is known.",
    ),
    click.option(
        "--app-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        show_default=True,
        help="Folder that comes first when the model's Python module is looked for.",
    ),
    click.option(
        "--model-seed",
        "seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Seed before the model is built: commands with one seed get the same weights.",
    ),
    click.option("--state", type=FILE, help="State dict to load (.safetensors or torch.save)."),
    click.option("--train", is_flag=True, help="Do not put the model in eval mode."),
    click.option(
        "--trust",
        is_flag=True,
        help="Read a model's file (.pt, .pt2), though that can run any code in it.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables."),
)

_CRITERION = click.option(
    "--criterion", type=click.Choice(CRITERIA), help="What ranks the channels."
)
_REDUCTION = click.option(
    "--reduction",
    type=click.Choice(REDUCTIONS),
    help="What a channel counts, of all positions that carry it.",
)
_SEED = click.option(
    "--seed", "plan_seed", type=click.IntRange(0), help="Seed of --criterion random."
)
_REMOVAL_OPTIONS = (
    click.option(
        "--ratio",
        type=click.FloatRange(0, 1, max_open=True),
        help="Fraction of channels to remove from every group.",
    ),
    click.option(
        "--ratios",
        metavar="PATTERN=R",
        multiple=True,
        callback=parsed(_named_ratio),
        help="The same for the groups that some modules produce, such as 'layer1.*=0.3';"
        " can be repeated, and the last that matches wins.",
    ),
    click.option(
        "--target",
        metavar="COST=SHARE",
        multiple=True,
        callback=parsed(_named_ratio),
        help="Instead of a ratio: the share of params, macs, bytes or latency that may be left,"
        " such as 'macs=0.5'; can be repeated.",
    ),
    click.option(
        "--by",
        type=click.Choice(("channels", "blocks")),
        help="What a target takes: channels, or residual blocks and channels for the rest."
        "  [default: channels]",
    ),
    click.option(
        "--channels",
        metavar="MODULE=1,5,7",
        multiple=True,
        callback=parsed(_named_channels),
        help="Output channels of a module to remove; can be repeated.",
    ),
    click.option(
        "--drop",
        metavar="BLOCK",
        multiple=True,
        help="Residual block to drop whole, by name or pattern; can be repeated.",
    ),
    click.option(
        "--ignore",
        metavar="PATTERN",
        multiple=True,
        help="Modules whose output channels all stay; can be repeated.",
    ),
    _CRITERION,
    _REDUCTION,
    click.option(
        "--normalize",
        type=click.Choice(NORMALIZATIONS),
        help="What the scores of a group are divided by, so that groups compare.",
    ),
    click.option(
        "--threshold", type=float, help="Instead of a ratio: channels with scores below it go."
    ),
    click.option(
        "--scope",
        type=click.Choice(SCOPES),
        help="Which groups are ranked together: each alone, those built alike, or all."
        "  [default: group; global with --sensitivity]",
    ),
    click.option(
        "--sensitivity",
        type=FILE,
        help="What `fxprune sensitivity` wrote: less goes from groups that lose much.",
    ),
    click.option(
        "--strategy",
        metavar="PATTERN:OPTION=VALUE,...",
        multiple=True,
        callback=parsed(_named_strategy),
        help="How channels of some modules are chosen, such as"
        " 'layer4.*:ratio=0.3,criterion=l1,round_to=8'; can be repeated.",
    ),
    click.option(
        "--keep",
        metavar="MODULE=1,5,7",
        multiple=True,
        callback=parsed(_named_channels),
        help="Output channels of a module that stay; can be repeated.",
    ),
    click.option(
        "--round-to",
        type=_Multiple(1),
        metavar="N|host|auto",
        help="Round kept widths up to a multiple; host: of what suits this machine, as measured;"
        " auto: host for a target of latency, else 1.  [default: auto]",
    ),
    click.option("--min-channels", type=click.IntRange(1), help="Least width of a group."),
    click.option(
        "--max-ratio", type=click.FloatRange(0, 1), help="Largest share of a group that may go."
    ),
    _switch(
        "uniform",
        "Whether groups in the same place of repeated blocks keep the same width."
        "  [default: no-uniform]",
    ),
    _SEED,
    _switch("heads", "Whether ratios take whole attention heads.  [default: heads]"),
    _switch("head-dims", "Whether ratios take dims of heads.  [default: no-head-dims]"),
    _switch(
        "groups",
        "Whether ratios take whole groups of grouped convolutions and norms.  [default: no-groups]",
    ),
)

_REMOVAL = (
    *(
        "ratio",
        "ratios",
        "target",
        "by",
        "channels",
        "keep",
        "drop",
        "ignore",
        "criterion",
        "reduction",
    ),
    *(
        "normalize",
        "threshold",
        "scope",
        "sensitivity",
        "strategy",
        "round_to",
        "min_channels",
        "max_ratio",
    ),
    *("uniform", "plan_seed", "heads", "head_dims", "groups"),
)
_SENSITIVITY_OPTIONS = (
    click.option(
        "--ratios",
        metavar="R,R,...",
        callback=parsed(_ratios),
        help="Fractions of channels to remove.  [default: 0.1,0.3,0.5,0.7,0.9]",
    ),
    click.option(
        "--mode",
        type=click.Choice(MODES),
        help="Whether values are better if they are larger (max) or smaller.  [default: max]",
    ),
    click.option(
        "--only",
        metavar="PATTERN",
        multiple=True,
        help="Modules or groups to measure, by name or pattern; can be repeated.  [default: all]",
    ),
    _CRITERION,
    _REDUCTION,
    _SEED,
    _switch("heads", "Whether whole attention heads are measured.  [default: heads]"),
    _switch("head-dims", "Whether dims of heads are measured.  [default: no-head-dims]"),
    _switch(
        "groups",
        "Whether whole groups of grouped convolutions and norms are.  [default: no-groups]",
    ),
    click.option(
        "--resume",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A file that is written after every point; those that it has are not measured again.",
    ),
)
_MEASURING = (
    "ratios",
    "mode",
    "only",
    "criterion",
    "reduction",
    "plan_seed",
    "heads",
    "head_dims",
    "groups",
    "resume",
)
_RENAMED = {"strategy": "strategies", "plan_seed": "seed"}
"""Arguments of `fxprune.plan` that have other names than the options."""
_BY_NAME = frozenset({"ratios", "target", "channels", "keep", "strategy"})


def output_option(
    what: str,
    *names: str,
    required: bool = True,
    when: str = "An existing file is replaced once all went well.",
) -> Callable[[Command], Command]:
    """An option that names a file, which is known to be writable: by default `-o`, as `path`."""
    return click.option(
        *(names or ("-o", "--output", "path")),
        type=click.Path(dir_okay=False, path_type=Path),
        callback=_writable,
        required=required,
        help=f"{what} {when}",
    )


def full_option(what: str) -> Callable[[Command], Command]:
    """The option that leaves nothing out of what is printed, as `full`."""
    return click.option("--full", is_flag=True, help=what)


def examples(*commands: str) -> str:
    """The end of a command's help."""
    lines = [f"  fxprune {command}" for command in commands]
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *lines])


def sensitivity_options(command: Command) -> Command:
    """The options that say what is measured; those given are handed on as `measuring`."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        measuring = {_RENAMED.get(name, name): options.pop(name) for name in _MEASURING}
        command(measuring={n: v for n, v in measuring.items() if v not in (None, ())}, **options)

    return with_options(run, _SENSITIVITY_OPTIONS)


def source_options(command: Command) -> Command:
    """Add the options that say how models are set up, and `--json`.

    They are handed on as `source`, which makes a `ModelSource` of a name, `inputs` and `trust`.
    """

    @functools.wraps(command)
    def run(
        *,
        app_dir: Path,
        seed: int,
        state: Path | None,
        train: bool,
        inputs: tuple[InputSpec, ...],
        trust: bool,
        **rest: Any,
    ) -> None:
        def source(name: AnyName) -> ModelSource:
            return ModelSource(name, app_dir, seed, state, train, inputs, trust)

        command(source=source, inputs=inputs, trust=trust, **rest)

    return with_options(run, _SOURCE_OPTIONS)


def model_options(command: Command) -> Command:
    """Add the argument MODEL and its options, handed on as `source`; and `--json`."""

    @functools.wraps(command)
    def run(
        *,
        model: AnyName,
        source: Callable[[AnyName], ModelSource],
        inputs: tuple[InputSpec, ...],
        trust: bool,
        **rest: Any,
    ) -> None:
        command(source=source(model), **rest)

    argument = click.argument("model", callback=parsed(parse_model), shell_complete=completions)
    return argument(source_options(run))


def removal_options(command: Command) -> Command:
    """Add the options that say what to remove; those given are handed on as `removal`."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        removal = {}
        for name in _REMOVAL:
            value = options.pop(name)
            if value is not None and value != ():
                given = _by_name(value) if name in _BY_NAME else value
                removal[_RENAMED.get(name, name)] = given
        command(removal=removal, **options)

    return with_options(run, _REMOVAL_OPTIONS)


def evaluate_option(command: Command) -> Command:
    """The option that names a function of the user's, handed on as `evaluate`."""
    return click.option(
        "--evaluate",
        metavar="MODULE:FUNCTION",
        required=True,
        callback=parsed(ModelName.parse),
        help="A function that takes a shrunk model and returns its value, found like MODEL.",
    )(command)


def meaning_options(command: Command) -> Command:
    """The options that choose what the result means; the command gets `norm` and `constants`."""
    norm = click.option(
        "--norm",
        type=click.Choice(("kept", "exact")),
        default="kept",
        show_default=True,
        help="Statistics over the kept channels, or over the original's width with zeros.",
    )
    constants = click.option(
        "--constants",
        type=click.Choice(("drop", "fold")),
        default="drop",
        show_default=True,
        help="What removed channels still emit is dropped, or goes into the biases that read it.",
    )
    return norm(constants(command))


def with_options(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    """A command with some options, which its help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def check_removal(removal: Mapping[str, Any], others: str = "") -> None:
    """Refuse options that remove nothing.

    Raises:
        UsageError: none of those that remove something is given.
    """
    known = ("ratio", "ratios", "target", "channels", "threshold", "strategies", "drop")
    if not removal.keys() & set(known):
        names = "--ratio, --ratios, --target, --channels, --threshold, --strategy or --drop"
        raise click.UsageError(f"say what to remove: {others}{names}")
