"""`fxprune export` writes files that were held against one another; MODEL may be one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_cli import app, document, fail, run

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx2torch")
pytest.importorskip("onnxscript")

import torch

import fxprune.onnx
from tests.onnx.networks import write

__all__ = ["app"]  # the fixture in whose folder commands run

BODY = """g (float[N, 8] x) => (float[N, 4] y) {
    a = MatMul (x, first)  b = Relu (a)  y = MatMul (b, second) }"""


@pytest.fixture(autouse=True)
def network(app: Path) -> Path:
    """A network, a plan for it, and inputs."""
    weights = {"first": torch.randn(8, 16), "second": torch.randn(16, 4)}
    path = write(app / "net.onnx", BODY, weights)
    np.savez(app / "inputs.npz", x=np.random.default_rng(0).normal(size=(9, 8)).astype("f4"))
    run("plan", "net.onnx", "--ratio", "0.5", "-o", "plan.json")
    return path


def test_dense_pruned_and_int8_are_told_side_by_side(app: Path) -> None:
    options = ("--int8", "--calibration", "inputs.npz", "--rounds", "2")
    found: Any = document("export", "net.onnx", "--plan", "plan.json", "-o", "s.onnx", *options)
    assert found["outputs"] == {"pruned": "s.onnx", "int8": "s.int8.onnx"}
    assert found["compared_on"] == "9 calls of inputs.npz"
    dense, pruned, int8 = found["stages"]
    assert [each["name"] for each in found["stages"]] == ["dense", "pruned", "int8"]
    assert dense["against"] == {}
    assert pruned["against"]["dense"]["relative"] > int8["against"]["pruned"]["relative"] > 0
    assert pruned["size"] == (app / "s.onnx").stat().st_size < dense["size"]
    assert int8["size"] == (app / "s.int8.onnx").stat().st_size
    assert all(each["latency"] > 0 for each in found["stages"])
    assert json.loads((app / "plan.json").read_text())["groups"]
    assert fxprune.onnx.Session("s.int8.onnx")(torch.ones(3, 8))[0].shape == (3, 4)


def test_a_table_is_shown_and_an_onnx_file_can_be_analyzed(app: Path) -> None:
    shown = run("export", "net.onnx", "--plan", "plan.json", "-o", "s.onnx", "--rounds", "1").stdout
    assert "same argmax" in shown
    assert "compared on 8 random inputs" in shown
    assert "wrote s.onnx" in shown
    assert not Path("s.int8.onnx").exists()
    assert document("analyze", "s.onnx")["groups"][0]["size"] == 8


def test_inputs_that_do_not_fit_are_told_and_nothing_is_written(app: Path) -> None:
    np.savez(app / "wrong.npz", x=np.zeros((0, 8), "f4"))
    options = ("--calibration", "wrong.npz", "--quick")
    told = fail("export", "net.onnx", "--plan", "plan.json", "-o", "s.onnx", *options)
    assert "wrong.npz has 0 samples" in told
    assert not Path("s.onnx").exists()


def test_a_model_file_that_is_not_there_and_sizes_that_are_none_are_told() -> None:
    assert "there is no file no.onnx" in fail("analyze", "no.onnx", code=2)
    options = ("--plan", "plan.json", "-o", "s.onnx", "--dynamic", "batch")
    assert "not of the form 0=batch" in fail("export", "net.onnx", *options, code=2)
