"""ONNX files: export shrunk models, load networks to shrink, quantize to 8 bits.

`pip install "fxprune[onnx]"`; not imported by `fxprune`, so that its packages are needed only
where it is used.
"""

from fxprune.errors import InputError

try:
    import onnx as _onnx  # noqa: F401 - only whether they are there
    import onnx2torch as _onnx2torch  # noqa: F401
    import onnxruntime as _onnxruntime  # noqa: F401
    import onnxscript as _onnxscript  # noqa: F401
except ImportError as error:
    raise InputError(
        f"fxprune.onnx needs a package that is missing: {error.name}",
        hint='pip install "fxprune[onnx]"',
    ) from error

from fxprune.onnx.agreement import Agreement, compare
from fxprune.onnx.loading import load
from fxprune.onnx.origin import Origin
from fxprune.onnx.quantizing import quantize
from fxprune.onnx.runtime import Session, latencies
from fxprune.onnx.writing import Exported, export

__all__ = [
    "Agreement",
    "Exported",
    "Origin",
    "Session",
    "compare",
    "export",
    "latencies",
    "load",
    "quantize",
]
