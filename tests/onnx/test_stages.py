"""Files of inputs are read if they fit, and refused if not; they run no code."""

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

from fxprune.onnx.stages import read_calls, stages
from tests.onnx.networks import write

TWO = "g (float[N, 8] x, float[N, 8] z) => (float[N, 8] y) { y = Add (x, z) }"
FIXED = "g (float[2, 8] x) => (float[2, 8] y) { y = Relu (x) }"
ROWS = np.arange(40, dtype=np.float32).reshape(5, 8)


@pytest.mark.parametrize("name", ["inputs.npz", "inputs.safetensors"])
def test_each_sample_is_a_call(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".npz"):
        np.savez(path, x=ROWS, z=ROWS)
    else:
        save = pytest.importorskip("safetensors.torch").save_file
        save({"x": torch.from_numpy(ROWS), "z": torch.from_numpy(ROWS.copy())}, path)
    calls = read_calls(path, write(tmp_path / "net.onnx", TWO, {}))
    assert [call["x"].shape for call in calls] == [(1, 8)] * 5
    assert np.array_equal(np.concatenate([call["z"] for call in calls]), ROWS)


def test_a_fixed_batch_is_filled_and_one_array_needs_no_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", ROWS)
    calls = read_calls(tmp_path / "inputs.npz", write(tmp_path / "net.onnx", FIXED, {}))
    assert [call["x"].shape for call in calls] == [(2, 8)] * 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": ROWS}, "do not fit"),
        ({"x": ROWS, "z": ROWS[:3]}, "do not fit"),
        ({"x": np.array(1.0), "z": np.array(1.0)}, "do not fit"),
        ({"x": ROWS[:0], "z": ROWS[:0]}, "0 samples"),
        ({"x": np.array([print]), "z": ROWS}, "cannot be read"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arrays: Any, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", **arrays)
    with pytest.raises(fxprune.InputError, match=message):
        read_calls(tmp_path / "inputs.npz", write(tmp_path / "net.onnx", TWO, {}))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inputs.npz").write_bytes(b"no archive")
    with pytest.raises(fxprune.InputError, match="cannot be read"):
        read_calls(tmp_path / "inputs.npz", write(tmp_path / "net.onnx", TWO, {}))


def test_each_stage_is_held_against_those_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", FIXED, {})
    found = stages({"dense": path, "pruned": path, "int8": path}, [ROWS[:2]], rounds=1)
    assert [list(each.against) for each in found] == [[], ["dense"], ["dense", "pruned"]]
    with pytest.raises(fxprune.InputError, match="no inputs to compare on"):
        stages({"dense": path}, [])
