"""The command line on models that are repaired from data."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from fxprune import cli_output
from fxprune.cli import main

# torch 2.13 warns of its own specs.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
# Until click 8.2, a runner mixed stderr into stdout unless it was asked not to.
RUNNER = CliRunner(
    **({"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {})
)
NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))

def half():
    return build().bfloat16()
"""
SHRINK = ("shrink", "repair_nets:build", "--input", "4x8", "--plan", "plan.json")
VERIFY = ("verify", "repair_nets:build", "--plan", "plan.json", "--trust")


def run(*arguments: object) -> Result:
    return RUNNER.invoke(main, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output + result.stderr
    return result.stdout


def failed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 1, result.output + result.stderr
    return result.stderr


def samples(kind: str) -> Any:
    return np.random.default_rng(0).normal(size=(90, 8)).astype(kind)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a model, a plan and samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_output, "_PATIENCE", 60)
    (tmp_path / "repair_nets.py").write_text(NET, encoding="utf-8")
    np.savez(tmp_path / "samples.npz", samples("f4"))
    plan = ("--ratio", 0.5, "-o", "plan.json")
    succeeded("plan", "repair_nets:build", "--input", "4x8", *plan)
    return tmp_path


@pytest.mark.parametrize("emit", ["graph", "module"])
@pytest.mark.parametrize("name", ["small.pt", "small.pt2"])
def test_a_repaired_model_in_a_file_is_verified(name: str, emit: str) -> None:
    """The file tells which tensors were repaired; the rest must be the original's."""
    succeeded(*SHRINK, "--calibrate", "samples.npz", "--emit", emit, "-o", name)
    told = succeeded(*VERIFY, name)
    assert "verified" in told
    assert "2 tensors, with the values that they have in the result" in told


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_a_file_of_what_was_not_repaired_tells_nothing(emit: str) -> None:
    succeeded(*SHRINK, "--emit", emit, "-o", "small.pt")
    assert "repaired" not in succeeded(*VERIFY, "small.pt")
    small: Any = torch.load("small.pt", weights_only=False)
    assert "_fxprune_repaired" not in vars(small)


def test_a_wrong_value_in_a_file_is_found() -> None:
    succeeded(*SHRINK, "--calibrate", "samples.npz", "-o", "small.pt")
    small: Any = torch.load("small.pt", weights_only=False)
    with torch.no_grad():
        small.get_parameter("0.weight").add_(1)
    torch.save(small, "small.pt")
    result = run(*VERIFY, "small.pt")
    assert result.exit_code != 0
    assert "differs from the original" in result.stderr


@pytest.mark.parametrize("kind", ["f8", ">f4", ">f8", "f2"])
def test_real_numbers_of_samples_are_taken_as_the_model_s(kind: str) -> None:
    """NumPy makes double precision if nobody asks for another one."""
    np.savez("other.npz", samples(kind))
    told = succeeded(*SHRINK, "--calibrate", "other.npz", "-o", "small.safetensors")
    assert "1 of 1 layers were repaired" in told or "repaired from data" in told


def test_samples_of_narrow_types_are_taken_from_safetensors() -> None:
    save_file({"x": torch.from_numpy(samples("f4")).bfloat16()}, "other.safetensors")
    narrow = ("shrink", "repair_nets:half", "--input", "4x8:bfloat16", "--ratio", 0.5)
    for command in (SHRINK, narrow):
        succeeded(*command, "--calibrate", "other.safetensors", "-o", "small.safetensors")


@pytest.mark.parametrize("kind", ["U1", "M8[s]", "V4"])
def test_what_are_no_numbers_is_refused(kind: str) -> None:
    np.savez("other.npz", x=np.zeros((4, 8), kind))
    told = failed(*SHRINK, "--calibrate", "other.npz", "-o", "small.pt")
    assert "the inputs in other.npz cannot be taken: x is of type" in told
