"""8-bit files are smaller, agree with those they are made of, and replace nothing if they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fxprune

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx2torch")
pytest.importorskip("onnxscript")

import onnx

import fxprune.onnx
from tests.onnx.networks import write

BODY = """g (float[N, 3, 8, 8] x) => (float[N, 10] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, kernel, bias)  b = Relu (a)
    c = GlobalAveragePool (b)  d = Flatten (c)  y = Gemm (d, matrix, vector) }"""
CALLS = [torch.randn(4, 3, 8, 8) for _ in range(4)]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    shapes = {"kernel": (64, 3, 3, 3), "bias": (64,), "matrix": (64, 10), "vector": (10,)}
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    return write(tmp_path / "net.onnx", BODY, weights, 17)


@pytest.mark.parametrize("calibration", [CALLS, None], ids=["static", "dynamic"])
def test_a_file_of_8_bits_is_smaller_and_agrees(calibration: Any, network: Path) -> None:
    path = network.with_name("int8.onnx")
    assert fxprune.onnx.quantize(network, path, calibration) == path
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert ("QuantizeLinear" in kinds) == (calibration is not None)
    assert kinds & {"ConvInteger", "QuantizeLinear"}
    assert set(network.parent.iterdir()) == {network, path}
    found = fxprune.onnx.compare(network, path, CALLS)
    assert 0 < found.relative < 0.05
    assert found.same_argmax is not None
    assert found.same_argmax > 0.8
    assert found.samples == len(CALLS)
    assert fxprune.onnx.Session(path).inputs == ("x",)


@pytest.mark.parametrize("calls", [[CALLS[0].numpy()], [{"x": CALLS[0]}], [(CALLS[0],)]])
def test_calibration_inputs_may_be_arrays_tuples_or_dicts(calls: Any, network: Path) -> None:
    path = fxprune.onnx.quantize(network, network.with_name("int8.onnx"), calls)
    assert fxprune.onnx.Session(path)(CALLS[0])[0].shape == (4, 10)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([], "no calibration inputs"),
        ([{"image": CALLS[0]}], "do not fit"),
        ([(CALLS[0], CALLS[0])], "do not fit"),
        ([torch.randn(4, 5, 8, 8)], "cannot quantize"),
    ],
)
def test_calibration_inputs_that_do_not_fit_are_told(
    calls: Any, message: str, network: Path
) -> None:
    path = network.with_name("int8.onnx")
    path.write_text("as it was")
    with pytest.raises(fxprune.InputError, match=message):
        fxprune.onnx.quantize(network, path, calls)
    assert path.read_text() == "as it was"


def test_a_file_that_is_no_network_is_told(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("no network")
    with pytest.raises(fxprune.InputError, match="ONNX Runtime cannot load"):
        fxprune.onnx.quantize(path, tmp_path / "int8.onnx")


def test_files_are_only_compared_on_the_same_numbers(network: Path) -> None:
    same = fxprune.onnx.compare(network, network, CALLS)
    assert (same.largest, same.relative, same.same_argmax) == (0, 0, 1)
    with pytest.raises(fxprune.InputError, match="no inputs to compare on"):
        fxprune.onnx.compare(network, network, [])
    with pytest.raises(fxprune.InputError, match="does not run on inputs of shapes"):
        fxprune.onnx.compare(network, network, [np.zeros((1, 3), np.float32)])


def test_latencies_are_one_for_each_file(network: Path) -> None:
    found = fxprune.onnx.latencies([network, network], CALLS[0], rounds=2)
    assert len(found) == 2
    assert min(found) > 0
