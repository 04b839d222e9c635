"""One pruned ResNet-50 gives the same answers wherever it runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx

import fxprune
from fxprune.model_files import load_program, save_program
from models_zoo import randomize

models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")

# The tests share one model and what it is shrunk to.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("everywhere")]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def dense() -> Any:
    torch.manual_seed(0)
    return randomize(models.resnet50(num_classes=10)).eval()


@pytest.fixture(scope="module")
def plan(dense: Any) -> fxprune.Plan:
    return fxprune.plan(dense, IMAGES, ratio=0.5)


@pytest.fixture(scope="module")
def small(dense: Any, plan: fxprune.Plan) -> fx.GraphModule:
    shrunk = fxprune.shrink(dense, plan, verify="quick")
    assert isinstance(shrunk, fx.GraphModule)
    return shrunk


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_in_eager_mode_it_was_proved_to_equal_the_masked_original(
    dense: Any, small: fx.GraphModule
) -> None:
    report = small.meta["fxprune"]
    assert report.verification.nodes > 50
    assert report.after.parameters < 0.3 * report.before.parameters
    assert not torch.allclose(small(IMAGES), dense(IMAGES))


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch 2.13 uses it itself
def test_compiled_it_computes_the_same(small: fx.GraphModule) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(small, fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), small(IMAGES), rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()


def test_as_a_program_in_a_pt2_file_it_computes_the_same_at_any_batch(
    dense: Any, plan: fxprune.Plan, small: fx.GraphModule, tmp_path: Path
) -> None:
    batch = torch.export.Dim("batch", max=64)
    program = torch.export.export(dense, (IMAGES,), dynamic_shapes=({0: batch},))
    save_program(fxprune.shrink(program, plan, verify="quick"), tmp_path / "small.pt2")
    read = load_program(tmp_path / "small.pt2").module()
    for images in (IMAGES, torch.randn(5, 3, 64, 64)):
        torch.testing.assert_close(read(images), small(images), rtol=1e-4, atol=1e-4)


def test_in_onnx_runtime_it_computes_the_same_and_in_8_bits_nearly(
    small: fx.GraphModule, tmp_path: Path
) -> None:
    for package in ("onnxruntime", "onnxscript", "onnx2torch"):
        pytest.importorskip(package)
    import fxprune.onnx  # noqa: PLC0415 - its packages may be missing

    written = fxprune.onnx.export(small, tmp_path / "small.onnx", IMAGES)
    session = fxprune.onnx.Session(written.path)
    for images in (IMAGES, torch.randn(5, 3, 64, 64)):
        (got,) = session(images)
        torch.testing.assert_close(torch.from_numpy(got), small(images), rtol=1e-3, atol=1e-3)
    calls = [torch.randn(4, 3, 64, 64) for _ in range(4)]
    path = fxprune.onnx.quantize(written.path, tmp_path / "int8.onnx", calls)
    assert path.stat().st_size < 0.3 * written.size
    found = fxprune.onnx.compare(written.path, path, calls)
    assert found.relative < 0.1
