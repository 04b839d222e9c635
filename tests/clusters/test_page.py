"""The scripts of docs/clusters.md run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import fxprune
from tests.pages import CHECKOUT, page

pytestmark = [
    pytest.mark.skipif(not dist.is_available(), reason="torch without distributed"),
    pytest.mark.slow,
]


def script(name: str) -> str:
    """The block of the page that begins with the name of a file."""
    return re.findall(
        rf"^```python\n# {name}\n(.*?)^```$", page("clusters"), re.DOTALL | re.MULTILINE
    )[0]


def run(folder: Path, name: str, *arguments: str, processes: int = 0) -> str:
    """Run a script in a folder; returns what it prints."""
    (folder / name).write_text(script(name), encoding="utf-8")
    many = ("-m", "torch.distributed.run", f"--nproc-per-node={processes}")
    free = ("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0")
    done = subprocess.run(
        [sys.executable, *((*many, *free) if processes else ()), name, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_write_the_plan_of_one(tmp_path: Path) -> None:
    plans = []
    for count in (1, 2):
        run(tmp_path, "scores.py", processes=count)
        plans.append(fxprune.Plan.load(tmp_path / "plan.json"))
        (tmp_path / "plan.json").unlink()
    assert plans[0].slices == plans[1].slices
    assert plans[0].slices


def test_a_local_cluster_of_dask_evaluates(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    told = run(tmp_path, "candidates.py")
    values = json.loads((tmp_path / "values.json").read_text())["values"]
    assert len(values) == 4
    assert re.findall(r"^(\S+) +\d+ parameters", told, re.MULTILINE) == [
        "(original)",
        "0.25",
        "0.5",
        "0.75",
    ]
    assert "Sensitivity: 0 with all channels" in told


def test_two_processes_calibrate_as_one(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from fxprune.onnx import export  # noqa: PLC0415  # an extra

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    export(model, tmp_path / "net.onnx", torch.randn(4, 3, 8, 8))
    torch.save(torch.randn(24, 3, 8, 8), tmp_path / "images.pt")
    files = []
    for count in (1, 2):
        file = f"int8.{count}.onnx"
        run(tmp_path, "calibrate.py", "net.onnx", file, "images.pt", processes=count)
        files.append(onnx.load(tmp_path / file).SerializeToString(deterministic=True))
    assert files[0] == files[1]
