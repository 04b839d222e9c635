"""The command line on exported programs: `.pt2` in and out."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn
from torch.export import Dim

from fxprune.cli import main
from models_zoo import randomize

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
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))

def example_inputs():
    return torch.ones(2, 8)
"""


def run(*arguments: object) -> Result:
    return RUNNER.invoke(main, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds net.pt2, a program with a dynamic batch."""
    torch.manual_seed(0)
    model = randomize(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))).eval()
    shapes = ({0: Dim("batch")},)
    program = torch.export.export(model, (torch.ones(2, 8),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "net.pt2")
    (tmp_path / "pt2_nets.py").write_text(NET, encoding="utf-8")
    return tmp_path


def test_a_program_goes_through_all_commands(folder: Path) -> None:
    net, small, plan = folder / "net.pt2", folder / "small.pt2", folder / "plan.json"
    assert succeeded("analyze", net, "--trust")["groups"][0]["name"] == "0"
    succeeded("plan", net, "--trust", "--ratio", 0.5, "-o", plan)
    report = succeeded("shrink", net, "--trust", "--plan", plan, "-o", small)
    assert report["after"]["parameters"] < report["before"]["parameters"]
    assert succeeded("verify", net, small, "--trust", "--plan", plan)
    read = torch.export.load(small).module()
    assert [read(torch.ones(batch, 8)).shape for batch in (1, 2, 5)] == [(1, 2), (2, 2), (5, 2)]


def test_a_module_may_become_a_program(folder: Path) -> None:
    small, plan = folder / "small.pt2", folder / "plan.json"
    net = ("pt2_nets:build", "--app-dir", folder)
    succeeded("plan", *net, "--ratio", 0.5, "-o", plan)
    succeeded("shrink", *net, "--plan", plan, "-o", small)
    assert succeeded("verify", "pt2_nets:build", small, *net[1:], "--trust", "--plan", plan)
    assert torch.export.load(small).module()(torch.ones(7, 8)).shape == (7, 2)


def test_a_program_is_read_only_if_it_is_trusted(folder: Path) -> None:
    for command in (("analyze",), ("shrink", "--ratio", "0.5", "-o", folder / "small.pt2")):
        result = run(command[0], folder / "net.pt2", *command[1:])
        assert result.exit_code == 1
        assert "can run any code in it" in result.stderr
        assert "--trust" in result.stderr
    assert not (folder / "small.pt2").exists()


def test_what_does_not_go_with_a_program_is_refused(folder: Path) -> None:
    net = folder / "net.pt2"
    result = run("shrink", net, "--trust", "--ratio", 0.5, "-o", folder / "small.pt")
    assert (result.exit_code, "a program goes to a file .pt2" in result.stderr) == (2, True)
    result = run("analyze", net, "--trust", "--train")
    assert (result.exit_code, "--state and --train are for models" in result.stderr) == (1, True)
    result = run("analyze", folder / "none.pt2", "--trust")
    assert (result.exit_code, "there is no file" in result.stderr) == (2, True)
    (folder / "bad.pt2").write_text("")
    result = run("analyze", folder / "bad.pt2", "--trust")
    assert (result.exit_code, "bad.pt2 cannot be read" in result.stderr) == (1, True)
