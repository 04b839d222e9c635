"""`fxprune bench`: models side by side."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result

from fxprune.cli import main
from tests.test_cli import RUNNER

NARROW, WIDE = "tests.runtimes.models:narrow", "tests.runtimes.models:wide"


def run(*arguments: object) -> Result:
    return RUNNER.invoke(main, ["bench", *map(str, arguments)])


def test_models_and_files_are_compared_in_every_runtime_that_takes_them(tmp_path: Path) -> None:
    for package in ("onnxruntime", "onnxscript", "matplotlib"):
        pytest.importorskip(package)
    small, chart = tmp_path / "small.pt", tmp_path / "chart.svg"
    torch.save(torch.nn.Linear(8, 4), small)
    options = ("--runtime", "onnxruntime,eager", "--rounds", 5, "--trust", "--json")
    done = run(WIDE, small, *options, "--chart", chart)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["measurements"]
    assert [(row["name"], row["runtime"]) for row in rows] == [
        (WIDE, "eager"),
        ("small.pt", "eager"),
        (WIDE, "onnxruntime"),
        ("small.pt", "onnxruntime"),
    ]
    assert [row["relation"] and row["relation"]["verdict"] for row in rows] == [
        None,
        "faster",
        None,
        "faster",
    ]
    assert rows[1]["size"] == small.stat().st_size
    assert chart.read_text().startswith("<?xml")


def test_a_table_says_what_failed_and_the_exit_code_too() -> None:
    done = run("tests.runtimes.models:failing", "--rounds", 5)
    assert done.exit_code == 1
    assert "tests.runtimes.models:failing in eager: ValueError: cannot run" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'MODEL...'"),
        ((NARROW, "--runtime", "eager,tvm"), "'eager,tvm' does not list runtimes"),
        ((NARROW, "--memory-limit", "5 apples"), "'5 apples' is no amount of memory"),
        ((NARROW, "--memory-limit", "0MB"), "'0MB' is no amount of memory"),
        ((NARROW, "absent.pt", "--trust"), "there is no file absent.pt"),
        ((NARROW, __file__), "is not of the form package.module:callable"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_file_that_can_run_code_is_read_with_trust_only(tmp_path: Path) -> None:
    (tmp_path / "small.pt").touch()
    done = run(tmp_path / "small.pt", "--input", "1x8")
    assert done.exit_code == 2
    assert "can run any code" in done.stderr


def test_an_onnx_file_runs_as_it_is_and_in_torch(tmp_path: Path) -> None:
    onnx = pytest.importorskip("fxprune.onnx", exc_type=Exception)
    path = tmp_path / "small.onnx"
    onnx.export(torch.nn.Linear(8, 4), path, torch.zeros(1, 8))
    options = ("--runtime", "eager,onnxruntime", "--input", "1x8", "--rounds", 5, "--json")
    rows = json.loads(run(path, *options).stdout)["measurements"]
    assert [(row["name"], row["runtime"], row["failure"]) for row in rows] == [
        ("small.onnx", "eager", ""),
        ("small.onnx", "onnxruntime", ""),
    ]
    assert rows[1]["size"] == path.stat().st_size


def test_without_inputs_nothing_is_measured(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(8, 4), tmp_path / "small.pt")
    done = run(tmp_path / "small.pt", "--trust")
    assert done.exit_code == 1
    assert "there are no inputs to call the models on" in done.stderr


@pytest.mark.parametrize(
    ("text", "count"), [("512MB", 512 * 10**6), ("1.5 GiB", 3 * 2**29), ("1000", 1000)]
)
def test_amounts_of_memory_have_units(text: str, count: int) -> None:
    from fxprune.cli_bench import _bytes  # noqa: PLC0415

    assert _bytes(text) == count
