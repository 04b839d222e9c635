"""Models as ONNX files: export, 8-bit weights and activations, accuracy and latency."""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn


def export(model: nn.Module, images: Tensor, path: Path) -> Path:
    """The model as an ONNX file, for any number of images."""
    batch = torch.export.Dim("batch")
    with _quiet():
        program: Any = torch.onnx.export(
            model, (images,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
        )
    program.save(path)
    return path


def quantized(path: Path, images: Tensor) -> Path:
    """The same network with weights and activations of 8 bits, calibrated on some images.

    Activations are unsigned: for those ONNX Runtime has fast operators on x86.
    """
    ready, target = path.with_suffix(".ready.onnx"), path.with_suffix(".int8.onnx")
    with _quiet():
        quant_pre_process(path, ready)
        reader = _Calibration(images)
        quantize_static(
            ready,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    ready.unlink()
    return target


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # it has no annotations
    """Images, one by one, for the only input of a network."""

    def __init__(self, images: Tensor) -> None:
        self._feeds = ({"x": image[None].numpy()} for image in images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and notes of the exporter and the quantizer about themselves."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


class Session(nn.Module):
    """An ONNX file, which runs on one thread."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._run = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._name = self._run.get_inputs()[0].name

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self._run.run(None, {self._name: images.numpy()})[0])


def latencies(paths: Sequence[Path], image: Tensor, rounds: int) -> list[float]:
    """Milliseconds for one image, the median of rounds in which all files take turns."""
    sessions = [Session(path) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for _ in range(rounds + 5):  # the first ones warm up
        for run, own in zip(sessions, times, strict=True):
            start = time.perf_counter()
            run(image)
            own.append((time.perf_counter() - start) * 1000)
    return [statistics.median(own[5:]) for own in times]
