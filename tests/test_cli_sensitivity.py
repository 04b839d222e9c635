"""`fxprune sensitivity`, and plans from what it writes."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fxprune import Sensitivity
from fxprune.cli import main

CHECKOUT = Path(__file__).parents[1]
# Until click 8.2, a runner mixed stderr into stdout unless it was asked not to.
RUNNER = CliRunner(
    **({"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {})
)
MODEL = ("tests.sensitivities.models:two", "--input", "2x4")
ERROR = ("--evaluate", "tests.sensitivities.models:error", "--mode", "min", "--ratios", "0.25,0.75")


def run(*arguments: object) -> Result:
    return RUNNER.invoke(main, [str(each) for each in arguments])


def test_it_prints_a_table_and_writes_what_plan_takes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curves, image, plan = tmp_path / "c.json", tmp_path / "c.svg", tmp_path / "p.json"
    done = run("sensitivity", *MODEL, *ERROR, "-o", curves, "--plot", image)
    assert done.exit_code == 0, done.output
    found = Sensitivity.load(curves)
    assert done.stdout == f"{found}\n"
    assert found.ratios == (0.25, 0.75)
    assert image.read_text().startswith("<?xml")
    done = run("plan", *MODEL, "--ratio", 0.5, "--sensitivity", curves, "-o", plan, "--json")
    widths = json.loads(done.stdout)["groups"]
    assert widths["small"]["after"] < 8 < widths["large"]["after"]


def test_it_goes_on_and_measures_what_is_named(tmp_path: Path) -> None:
    points = tmp_path / "points.json"
    options = ("--only", "small", "--criterion", "l1", "--resume", points, "--json")
    first = run("sensitivity", *MODEL, *ERROR, *options)
    again = run("sensitivity", *MODEL, *ERROR, *options, "--no-verify")
    assert first.stdout == again.stdout == f"{points.read_text()}\n"
    assert list(json.loads(first.stdout)["groups"]) == ["small"]
    refused = run("sensitivity", *MODEL, *ERROR, "--resume", points)
    assert refused.exit_code == 1
    assert "criterion is 'l1' there, 'l2' here" in refused.stderr


@pytest.mark.slow
def test_processes_evaluate_and_what_they_print_is_not_in_the_result(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "from tests.sensitivities.models import error\n"
        "def value(model):\n    print('noise', flush=True)\n    return error(model)\n"
    )
    arguments = [*MODEL, "--evaluate", "noisy:value", "--mode", "min", "--ratios", "0.5", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fxprune", "sensitivity", *arguments, "--jobs", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here = run("sensitivity", *MODEL, *ERROR, "--ratios", "0.5", "--json")
    assert Sensitivity.from_json(done.stdout) == Sensitivity.from_json(here.stdout)
    assert done.stderr.count("noise") == 3


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--ratios", "half"), 2, "are not like 0.25,0.5"),
        (("--ratios", "1.5"), 1, "a ratio is 1.5"),
        (("--evaluate", "error"), 2, "is not of the form"),
        (("--evaluate", "tests.sensitivities.models:eror"), 1, "nearest names are: error"),
        (("--evaluate", "tests.sensitivities.models:X"), 1, "is an object of type Tensor"),
        (("--evaluate", "builtins:len"), 1, "evaluate failed for the whole model"),
        (("--only", "smal"), 1, "nearest names"),
        (("--plot", "curves.doc"), 1, "kind of an image"),
        (("-o", "no/curves.json"), 2, "does not exist"),
        (("--jobs", "0"), 2, "--jobs"),
    ],
)
def test_what_is_wrong_is_told(arguments: tuple[str, ...], code: int, text: str) -> None:
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    done = run("sensitivity", *MODEL, *ERROR, *arguments)
    assert done.exit_code == code
    assert text in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_a_function_is_needed() -> None:
    done = run("sensitivity", *MODEL)
    assert done.exit_code == 2
    assert "--evaluate" in done.stderr
