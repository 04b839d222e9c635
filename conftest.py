"""Modules that need an extra are not collected for their doctests without it."""

from importlib.util import find_spec

_ONNX = ("onnx", "onnxruntime", "onnxscript", "onnx2torch")
collect_ignore = [] if find_spec("lightning") else ["fxprune/lightning.py"]
collect_ignore += [] if all(map(find_spec, _ONNX)) else ["fxprune/onnx", "tests/onnx/networks.py"]
