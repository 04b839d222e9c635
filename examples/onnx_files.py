"""Models as ONNX files: export, 8-bit weights and activations, accuracy and latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import fxprune.onnx


def export(model: nn.Module, images: Tensor, path: Path) -> Path:
    """The model as an ONNX file, for any number of images."""
    return fxprune.onnx.export(model, path, images).path


def quantized(path: Path, images: Tensor) -> Path:
    """The same network with weights and activations of 8 bits, calibrated on some images."""
    return fxprune.onnx.quantize(path, path.with_suffix(".int8.onnx"), images.split(1))


class Session(nn.Module):
    """An ONNX file, which runs on one thread."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._run = fxprune.onnx.Session(path)

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self._run(images)[0])


def latencies(paths: Sequence[Path], image: Tensor, rounds: int) -> list[float]:
    """Milliseconds for one image, the median of rounds in which all files take turns."""
    return fxprune.onnx.latencies(paths, image, rounds=rounds)
