"""The notebook of the tour runs, and the outputs in it are those of a run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from examples.notebooks import NOTEBOOKS, path_of, stable

nbformat = pytest.importorskip("nbformat")
CHECKOUT = Path(__file__).parents[1]
NEEDS = ("nbclient", "ipykernel", "matplotlib", "sklearn", "safetensors")

RUN = """
import sys, nbformat
from examples.notebooks import executed
nbformat.write(executed(sys.argv[1]), sys.argv[2])
"""


@cache
def committed(name: str) -> Any:
    """A notebook as it is in the repository."""
    return nbformat.read(path_of(name), as_version=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_has_the_outputs_of_a_run(name: str, tmp_path: Path) -> None:
    for package in NEEDS:
        pytest.importorskip(package)
    file = tmp_path / "run.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", RUN, name, str(file)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert stable(nbformat.read(file, as_version=4)) == stable(committed(name))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_small_outputs_without_warnings_or_places_of_a_machine(name: str) -> None:
    text = path_of(name).read_text(encoding="utf-8")
    assert len(text) < 400_000
    outputs = [output for cell in committed(name).cells for output in cell.get("outputs", ())]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    shown = str(outputs)
    assert [word for word in ("/tmp", "/home", "/root", " 0x", "ipykernel_") if word in shown] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_shows_tables_pictures_and_plots_each_in_one_form(name: str) -> None:
    kinds = [
        set(o.data) for c in committed(name).cells for o in c.get("outputs", ()) if "data" in o
    ]
    for kind in ("text/html", "image/svg+xml", "image/png"):
        assert {kind} in kinds, "nothing is kept twice"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_code_of_a_notebook_uses_public_names_only(name: str) -> None:
    code = "\n".join(c.source for c in committed(name).cells if c.cell_type == "code")
    tree = ast.parse(code.replace("%matplotlib inline", ""))
    attributes = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert not [each for each in attributes if each.startswith("_") and each != "__init__"]
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [each for each in modules if each and each.startswith("fxprune")]
