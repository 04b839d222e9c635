"""The command line drops blocks, tells which, and verifies what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_cli import app, document, fail, run

__all__ = ["app"]  # the fixture in whose folder commands run

BLOCKS = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.down(self.up(x).relu())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 4)
        self.blocks = nn.Sequential(*[Block() for _ in range(3)])

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


def example_inputs():
    return torch.ones(2, 8)
"""


@pytest.fixture(autouse=True)
def blocks(app: Path) -> None:
    (app / "blocks.py").write_text(BLOCKS)


def plan(*options: object) -> Any:
    return document("plan", "blocks:Net", "-o", "plan.json", *options)


def test_blocks_alone_are_enough_to_remove() -> None:
    assert plan("--drop", "blocks.1")["dropped"] == ["blocks.1"]
    assert json.loads(Path("plan.json").read_text())["dropped"] == ["blocks.1"]
    shown = run("plan", "blocks:Net", "-o", "plan.json", "--drop", "blocks.*").stdout
    assert "dropped whole: blocks.0, blocks.1, blocks.2" in shown


def test_a_plan_with_dropped_blocks_is_shrunk_and_verified() -> None:
    plan("--drop", "blocks.0", "--drop", "blocks.2", "--ratio", 0.5)
    report = document("shrink", "blocks:Net", "--plan", "plan.json", "-o", "small.pt")
    assert report["dropped"] == ["blocks.0", "blocks.2"]
    assert report["verification"]["dropped"] == 2
    small = torch.load("small.pt", weights_only=False)
    assert {n.partition(".")[0] for n, _ in small.named_parameters()} == {"stem", "head", "blocks"}
    assert not [n for n, _ in small.named_modules() if n in ("blocks.0", "blocks.2")]
    shown = run("verify", "blocks:Net", "small.pt", "--plan", "plan.json", "--trust").stdout
    assert "dropped blocks pass their input on (2)" in " ".join(shown.split())


def test_a_module_with_dropped_blocks_is_written_and_read() -> None:
    run("shrink", "blocks:Net", "--drop", "blocks.1", "--emit", "module", "-o", "small.pt")
    assert repr(torch.load("small.pt", weights_only=False).blocks[1]) == "Dropped(Block)"


def test_what_cannot_be_dropped_is_an_error() -> None:
    for name in ("stem", "blocks.7", "nothing.*"):
        for command in ("plan", "shrink"):
            assert name in fail(command, "blocks:Net", "--drop", name, "-o", "out")
    assert not Path("out").exists()
