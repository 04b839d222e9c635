"""The files that an ONNX model consists of."""

from __future__ import annotations

from pathlib import Path

import onnx_ir


def data_files(path: Path) -> list[Path]:
    """The files beside an ONNX file in which it says that its weights are."""
    model = onnx_ir.load(path)
    names = {
        str(value.const_value.location)
        for graph in model.graphs()
        for value in graph.initializers.values()
        if isinstance(value.const_value, onnx_ir.ExternalTensor)
    }
    return [path.parent / name for name in sorted(names)]


def file_size(path: Path) -> int:
    """The bytes of an ONNX file and of the files in which its weights are."""
    return sum(file.stat().st_size for file in [path, *data_files(path)])
