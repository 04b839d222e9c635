"""Wrong command lines: what they print on stderr, and their exit codes."""

import inspect
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from click.testing import CliRunner

import fxprune
from fxprune.cli import main
from tests.wrong_uses import nets
from tests.wrong_uses.table import Outcome, World, Wrong

_SOURCE = """
from tests.wrong_uses.nets import NoForward, Raises, chain, rows as example_inputs


def with_argument(width):
    return chain()


def broken():
    raise ValueError("no weights today")


number = 3
"""
_PLAIN = "from tests.wrong_uses.nets import chain"

# Until click 8.2, a runner mixed stderr into stdout unless it was asked not to.
_RUNNER = CliRunner(
    **({"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {})
)


def run(folder: Path, *arguments: str) -> None:
    """Run a command in a folder; nothing is left of the modules that it imports.

    Raises:
        Outcome: it failed; with the exit code, and its error without the usage.
    """
    path, here, modules = sys.path.copy(), Path.cwd(), set(sys.modules)
    os.chdir(folder)
    try:
        with torch.random.fork_rng(devices=[]):  # a command has a process of its own
            result = _RUNNER.invoke(main, arguments)
    finally:
        os.chdir(here)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name in ("users", "plain"):
                del sys.modules[name]
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code:
        assert not result.stdout
        raise Outcome(f"exit code {result.exit_code}\n{result.stderr.partition('Error: ')[2]}")


def command(*arguments: str) -> Callable[[World], object]:
    return lambda w: run(w.folder, *arguments)


def write_modules(world: World) -> None:
    """The Python modules that the commands import."""
    sys.dont_write_bytecode = True
    (world.folder / "users.py").write_text(_SOURCE)
    (world.folder / "plain.py").write_text(_PLAIN)


def with_plan(world: World) -> None:
    write_modules(world)
    world.plan.save(world.folder / "plan.json")


def with_result(world: World) -> None:
    with_plan(world)
    run(world.folder, "shrink", "users:chain", "--plan", "plan.json", "-o", "small.pt")


def with_other_result(world: World) -> None:
    with_result(world)
    plan = fxprune.plan(world.model, world.x, channels={"0": [0]})
    plan.save(world.folder / "plan.json")


def with_pipes(world: World) -> None:
    write_modules(world)
    for name in ("plan.json", "weights.pt", "weights.safetensors"):
        os.mkfifo(world.folder / name)


def with_weights(*make: Callable[[Path], object]) -> Callable[[World], None]:
    """Writes `weights.pt`."""

    def before(world: World) -> None:
        write_modules(world)
        for step in make:
            step(world.folder / "weights.pt")

    return before


def compress(path: Path) -> None:
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in parts.items():
            new.writestr(name, content)


class Bomb:
    """A `bytearray` of 16 GiB, in 100 bytes."""

    def __reduce__(self) -> tuple[object, ...]:
        return bytearray, (16 << 30,)


def state(path: Path) -> None:
    torch.save(nets.chain().state_dict(), path)


def row(
    name: str,
    *arguments: str,
    before: Callable[[World], None] = write_modules,
    foreign: tuple[str, ...] = (),
) -> Wrong:
    return Wrong(name, command(*arguments), before=before, foreign=foreign)


def analyze(name: str, *arguments: str, foreign: tuple[str, ...] = ()) -> Wrong:
    return row(name, "analyze", *arguments, foreign=foreign)


def weights(name: str, *make: Callable[[Path], object], foreign: tuple[str, ...] = ()) -> Wrong:
    """Analyzes a model with weights from a file that `make` writes."""
    arguments = ("analyze", "users:chain", "--state", "weights.pt")
    return row(name, *arguments, before=with_weights(*make), foreign=foreign)


MODELS = (
    analyze("a class without its module", "Net"),
    analyze("an exported program that is not there", "model.pt2"),
    analyze("a Python file as MODEL", "users.py:chain"),
    analyze("a module that is not there", "user:chain", foreign=(r"(?<=names are: ).*",)),
    analyze("a misspelt function", "users:chian"),
    analyze("a function that needs an argument", "users:with_argument"),
    analyze("a function that raises", "users:broken"),
    analyze("a number as MODEL", "users:number"),
    analyze("a model that does not run", "users:Raises"),
    analyze("no example inputs", "plain:chain"),
)

OPTIONS = (
    analyze("an input without sizes", "users:chain", "--input", "image"),
    analyze("an input of an unknown type", "users:chain", "--input", "4x6:float31"),
    analyze("an input of terabytes", "users:chain", "--input", "1000000000000x6"),
    analyze("an input with a size of 5,000 digits", "users:chain", "--input", "1" * 5000),
    analyze("two inputs for one argument", "users:chain", "--input", "4x6", "--input", "4x6"),
    row("a ratio of 1", "plan", "users:chain", "--ratio", "1", "-o", "plan.json"),
    row("a ratio of nan", "plan", "users:chain", "--ratio", "nan", "-o", "plan.json"),
    row("nothing to remove", "plan", "users:chain", "-o", "plan.json"),
    row("ratios without a name", "plan", "users:chain", "--ratios", "0.5", "-o", "plan.json"),
    row("channels by name", "plan", "users:chain", "--channels", "0=first", "-o", "plan.json"),
    row(
        "an unknown option",
        *("plan", "users:chain", "--ration", "0.5", "-o", "plan.json"),
        foreign=(r"(?<=No such option).*",),
    ),
    row(
        "a plan and a ratio",
        *("shrink", "users:chain", "--plan", "plan.json", "--ratio", "0.5", "-o", "small.pt"),
        before=with_plan,
    ),
    row("a folder to write to", "plan", "users:chain", "--ratio", "0.5", "-o", "."),
    row("a folder that is not there", "plan", "users:chain", "--ratio", "0.5", "-o", "a/plan.json"),
)

FILES = (
    row("no plan", "shrink", "users:chain", "--plan", "plan.json", "-o", "small.pt"),
    row("a Python file as a plan", "shrink", "users:chain", "--plan", "users.py", "-o", "small.pt"),
    row(
        "a named pipe as a plan",
        *("shrink", "users:chain", "--plan", "plan.json", "-o", "small.pt"),
        before=with_pipes,
    ),
    row(
        "a named pipe as weights",
        *("analyze", "users:chain", "--state", "weights.pt"),
        before=with_pipes,
    ),
    row(
        "a named pipe as weights of safetensors",
        *("analyze", "users:chain", "--state", "weights.safetensors"),
        before=with_pipes,
    ),
    weights(
        "weights of another model",
        lambda p: torch.save(nets.images().state_dict(), p),
        foreign=(r"(?<=why: ).*",),
    ),
    weights(
        "weights that are a list",
        lambda p: torch.save([torch.zeros(3)], p),
        foreign=(r"(?<=why: ).*",),
    ),
    weights("a whole model as weights", lambda p: torch.save(nets.chain(), p)),
    weights("weights that are compressed", state, compress),
    weights("weights that are cut short", state, lambda p: p.write_bytes(p.read_bytes()[:-100])),
    weights("weights that are a text", lambda p: p.write_text("weights")),
    weights("weights that ask for 16 GiB", lambda p: torch.save({"a": Bomb()}, p)),
    row(
        "weights with NaN",
        *("plan", "users:chain", "--ratio", "0.5", "--state", "weights.pt", "-o", "plan.json"),
        before=with_weights(lambda p: torch.save(nets.poisoned(float("nan")).state_dict(), p)),
    ),
)

VERIFYING = (
    row(
        "a result that nobody vouches for",
        *("verify", "users:chain", "small.pt", "--plan", "plan.json"),
        before=with_result,
    ),
    row(
        "a plan as the result",
        *("verify", "users:chain", "plan.json", "--plan", "plan.json", "--trust"),
        before=with_plan,
        foreign=(r"(?<=cannot be read: ).*",),
    ),
    row(
        "another plan than that of the result",
        *("verify", "users:chain", "small.pt", "--plan", "plan.json", "--trust"),
        before=with_other_result,
        foreign=(r"(?s)(?<=instead of).*",),
    ),
)

ROWS = {
    "MODEL on the command line": MODELS,
    "Options of the command line": OPTIONS,
    "Files of the command line": FILES,
    "Verifying on the command line": VERIFYING,
}
