"""Networks of other tools, in, smaller, and out again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxprune

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx2torch")
pytest.importorskip("onnxscript")

import fxprune.onnx


class Encoder(nn.Module):
    """A transformer whose weights are all different, as trained ones are."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.emb, self.head = nn.Embedding(50, 16), nn.Linear(16, 5)
        self.enc = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.enc(self.emb(tokens)).mean(1))
        return out


def round_trip(model: nn.Module, x: Tensor, folder: Path) -> fxprune.ShrinkReport:
    """Out, in, smaller and out; every step is held against the one before."""
    first = fxprune.onnx.export(model.eval(), folder / "dense.onnx", x)
    loaded = fxprune.onnx.load(first.path, x)
    torch.testing.assert_close(loaded(x), model(x), atol=1e-4, rtol=1e-4)
    small = fxprune.shrink(loaded, fxprune.plan(loaded, x, ratio=0.5), verify="quick")
    last = fxprune.onnx.export(small, folder / "small.onnx")
    assert (last.inputs, last.outputs) == (first.inputs, first.outputs)
    assert "another batch" in last.checked
    assert last.size < first.size
    report: fxprune.ShrinkReport = small.meta["fxprune"]
    return report


def test_a_network_of_torchvision_comes_out_smaller(tmp_path: Path) -> None:
    resnet = pytest.importorskip("torchvision").models.resnet
    model = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=7)
    report = round_trip(model, torch.randn(2, 3, 32, 32), tmp_path)
    assert {"conv1", "layer1.0.conv1", "layer4.0.conv2"} <= report.groups.keys()
    assert all(group.width * 2 == group.size for group in report.groups.values())
    assert report.after.parameters < 0.27 * report.before.parameters


def test_a_transformer_loses_heads_and_width_and_comes_out_smaller(tmp_path: Path) -> None:
    report = round_trip(Encoder(), torch.randint(0, 50, (2, 8)), tmp_path)
    kinds = [group.kind for group in report.groups.values() if group.removed]
    assert sorted(kinds) == ["channels", "channels", "heads"]
