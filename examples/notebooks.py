"""Notebooks of the examples: they run, and keep outputs that do not change from run to run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

NOTEBOOKS = ("tour",)
FOLDER = Path(__file__).parent
_TIMEOUT = 300
_RICHER = ("text/html", "image/svg+xml", "image/png")
"""What says more than `text/plain`, which is left out beside it."""
_SECONDS = re.compile(r"<tr>(?:(?!</tr>).)*>seconds<.*?</tr>")
_VARYING = re.compile(r"\d+\.\d+(e[+-]?\d+)?|\b\de-\d+| at \w+(?=<)|base64,[\w+/=]+")
"""Results of floating-point numbers, which other processors round otherwise, and images."""


def executed(name: str) -> Any:
    """A notebook with the outputs of a run, in a kernel of its own and in this folder."""
    import nbformat  # noqa: PLC0415  # an extra
    from nbclient import NotebookClient  # noqa: PLC0415

    notebook = nbformat.read(path_of(name), as_version=4)
    client = NotebookClient(
        notebook,
        timeout=_TIMEOUT,
        resources={"metadata": {"path": FOLDER}},
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.clear()  # when it ran
        for output in cell.get("outputs", ()):
            _settle(output)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def _settle(output: Any) -> None:
    """Leave out times, and the text of what is shown in a better way."""
    data = output.get("data", {})
    if any(kind in data for kind in _RICHER):
        data.pop("text/plain", None)
    if "text/html" in data:
        data["text/html"] = _SECONDS.sub("", data["text/html"])


def write_notebook(notebook: Any, path: Path) -> None:
    """Write a notebook to a file."""
    import nbformat  # noqa: PLC0415  # an extra

    nbformat.write(notebook, path)


def path_of(name: str) -> Path:
    """The file of a notebook."""
    return FOLDER / f"{name}.ipynb"


def stable(notebook: Any) -> list[Any]:
    """Of each cell its source and outputs, without what other processors may compute otherwise.

    Of images it is their kinds: other versions of the programs that draw them draw otherwise.
    """
    return [
        (cell.source, [_stable(output) for output in cell.get("outputs", ())])
        for cell in notebook.cells
    ]


def _stable(output: Any) -> Any:
    if "text" in output:
        return output.name, _VARYING.sub("#", output.text)
    images = sorted(kind for kind in output.data if kind.startswith("image/"))
    texts = {k: _VARYING.sub("#", v) for k, v in output.data.items() if k not in images}
    return images, texts
