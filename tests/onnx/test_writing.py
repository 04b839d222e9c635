"""An exported file computes what the model computes, says so by names, or is not written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx2torch")
pytest.importorskip("onnxscript")

import onnx

import fxprune.onnx
from fxprune.onnx import writing
from fxprune.onnx.files import data_files, file_size
from tests.onnx.networks import convnet

IMAGE = torch.randn(1, 3, 8, 8)


class Scaled(nn.Module):
    """Two inputs, an option and nested outputs, over a batch of two only if so asked."""

    def __init__(self, batch: int = -1) -> None:
        super().__init__()
        self.first, self.second, self.batch = nn.Linear(4, 8), nn.Linear(8, 2), batch

    def forward(self, x: Tensor, scale: Tensor, *, plain: bool = False) -> dict[str, Any]:
        y = self.second(self.first(x.reshape(self.batch, 4)).relu())
        return {"logits": y if plain else y * scale, "hidden": [y, y + 1]}


class Noisy(nn.Module):
    """What no file can compute again."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Centred(nn.Module):
    """A normalization over channels that can go."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.first(x)))
        return out


SCALED = (torch.randn(2, 4), torch.randn(2, 1))


def test_a_shrunk_graph_becomes_one_clean_file_for_any_batch(tmp_path: Path) -> None:
    small = fxprune.shrink(convnet(), {"0": 0.5, "3": 0.5}, IMAGE, verify="quick").train()
    done = fxprune.onnx.export(small, tmp_path / "small.onnx")
    assert small.training
    assert list(tmp_path.iterdir()) == [done.path]
    assert done.checked == ("the example", "negative inputs", "another batch")
    assert done.error < 1e-5
    assert done.size == done.path.stat().st_size
    assert (done.inputs, done.outputs) == (("input",), ("output",))
    model = onnx.load(done.path)
    assert {"0.weight", "3.weight", "7.bias"} <= {each.name for each in model.graph.initializer}
    assert b"stack_trace" not in done.path.read_bytes()
    assert __file__.encode() not in done.path.read_bytes()
    images = torch.randn(5, 3, 8, 8)
    (got,) = fxprune.onnx.Session(done.path)(images)
    torch.testing.assert_close(torch.from_numpy(got), small.eval()(images), atol=1e-5, rtol=1e-4)


def test_height_and_width_can_be_left_open(tmp_path: Path) -> None:
    sizes = {0: "batch", 2: "height", 3: "width"}
    done = fxprune.onnx.export(convnet(), tmp_path / "net.onnx", IMAGE, dynamic=sizes)
    assert done.checked[-1] == "larger inputs"
    assert fxprune.onnx.Session(done.path)(torch.randn(2, 3, 9, 7))[0].shape == (2, 4)


@pytest.mark.parametrize("emit", ["graph", "module"])
def test_inputs_are_named_after_arguments_and_outputs_after_keys(emit: Any, tmp_path: Path) -> None:
    small = fxprune.shrink(Scaled(), {"first": 0.5}, SCALED, emit=emit, verify="quick")
    done = fxprune.onnx.export(small, tmp_path / "small.onnx")
    assert done.inputs == ("x", "scale")
    assert done.outputs == ("logits", "hidden_0", "hidden_1")


def test_a_result_with_exact_norms_is_exported_for_one_size_if_none_is_open(
    tmp_path: Path,
) -> None:
    x = torch.randn(2, 4)
    small = fxprune.shrink(Centred(), {"first": [0, 5]}, x, norm="exact", verify="quick")
    done = fxprune.onnx.export(small, tmp_path / "small.onnx", dynamic={})
    assert done.error < 1e-5
    assert done.checked == ("the example", "negative inputs")
    assert fxprune.onnx.Session(done.path).batch == 2


def test_a_batch_that_the_model_fixes_is_told(tmp_path: Path) -> None:
    with pytest.raises(fxprune.InputError, match=r"'batch'\] cannot all be left open") as told:
        fxprune.onnx.export(Scaled(batch=2), tmp_path / "net.onnx", SCALED)
    assert "static shape of 2" in told.value.why
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("as it was")
    with pytest.raises(fxprune.VerificationError, match="something else than the model") as told:
        fxprune.onnx.export(Noisy(), path, torch.randn(2, 4))
    assert told.value.where == "on the example"
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_weights_that_do_not_fit_in_one_file_are_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_ONE_FILE", 100)
    done = fxprune.onnx.export(torch.nn.Linear(32, 8), tmp_path / "net.onnx", torch.randn(2, 32))
    assert done.data is not None
    assert set(tmp_path.iterdir()) == {done.path, done.data}
    assert done.size == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert data_files(done.path) == [done.data]
    assert file_size(done.path) == done.size
    assert fxprune.onnx.Session(done.path)(torch.randn(3, 32))[0].shape == (3, 8)


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"y": {0: "batch"}}, "no input 'y'"),
        ({2: "height"}, "has no dim 2"),
        ({0: "my batch"}, "dynamic has 0: 'my batch'"),
        ([0], "is no dict"),
    ],
)
def test_sizes_that_are_not_there_are_refused(dynamic: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(fxprune.InputError, match=message):
        fxprune.onnx.export(Scaled(), tmp_path / "net.onnx", SCALED, dynamic=dynamic)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(fxprune.InputError, match="example inputs are missing"):
        fxprune.onnx.export(Scaled(), path)
    with pytest.raises(fxprune.InputError, match="which size is the batch"):
        fxprune.onnx.export(Scaled(), path, (torch.randn(3, 4), torch.randn(1, 1)))
    with pytest.raises(fxprune.InputError, match="does not run on inputs of shapes"):
        fxprune.onnx.export(Scaled(), path, (torch.randn(2, 3), torch.randn(2, 1)))
    half = torch.randn(2, 4).bfloat16()
    with pytest.raises(fxprune.InputError, match=r"type torch\.bfloat16|Runtime cannot load"):
        fxprune.onnx.export(Centred().bfloat16(), path, half)
    with pytest.raises(fxprune.InputError, match="meta device"):
        fxprune.onnx.export(Scaled().to("meta"), path, SCALED)
    with pytest.raises(fxprune.InputError, match="a dict cannot be exported"):
        fxprune.onnx.export({}, path, SCALED)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(fxprune.FxPruneError, match="folder does not exist"):
        fxprune.onnx.export(Centred(), tmp_path / "no" / "net.onnx", torch.randn(2, 4))
