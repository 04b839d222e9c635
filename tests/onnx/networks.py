"""ONNX files for the tests, written as text, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import torch
from torch import nn


def convnet(*more: nn.Module) -> nn.Sequential:
    """A small network with dropout, for images of any size."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 8, 3)]
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return nn.Sequential(*layers, *head, *more)


def write(path: Path, body: str, weights: Mapping[str, Any], opset: int = 20) -> Path:
    """Write an ONNX file from its text and its weights; two underscores of a name become a dot."""
    text = f'<ir_version: 9, opset_import: ["" : {opset}], doc_string: "a doc">\n{body}'
    model = onnx.parser.parse_model(text)
    for name, value in weights.items():
        array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    for value in (*model.graph.input, *model.graph.initializer):
        value.name = value.name.replace("__", ".")
    onnx.helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, path)
    return path
