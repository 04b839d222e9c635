"""`fxprune.onnx` is there with the extra, and only where it is asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

CODE = """
import sys, fxprune
assert not {"onnx", "onnxruntime", "onnxscript", "onnx2torch"} & sys.modules.keys()
sys.modules["onnxruntime"] = None
try:
    import fxprune.onnx
except fxprune.InputError as error:
    print(error)
"""


def test_it_is_imported_by_name_only_and_tells_what_is_missing() -> None:
    pytest.importorskip("onnx2torch")
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    ).stdout
    assert "needs a package that is missing: onnxruntime" in done
    assert 'pip install "fxprune[onnx]"' in done


def test_every_public_name_has_a_docstring_and_annotations() -> None:
    for package in ("onnxruntime", "onnxscript", "onnx2torch"):
        pytest.importorskip(package)
    import fxprune.onnx as public  # noqa: PLC0415 - its packages may be missing

    assert sorted(public.__all__) == public.__all__
    for name in public.__all__:
        value = getattr(public, name)
        assert (value.__doc__ or "").strip()
        if inspect.isfunction(value):
            assert inspect.signature(value).return_annotation is not inspect.Signature.empty
