"""Pictures as pages: one HTML file with everything in it, which reads nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from fxprune.errors import InputError

_SCRIPTS = (
    *("tree.js", "texts.js", "measures.js", "visible.js", "routes.js", "layout.js", "shapes.js"),
    *("view.js", "details.js", "lists.js", "slider.js", "page.js", "main.js"),
)
"""The scripts of the page; each uses those before it."""
_FORM = re.compile(
    r"\bdagre\.layout = \(nodes, edges, layout, state\) => \{.*"
    r"(?P<exports>^export const \{ layout, Graph \} = dagre;)\s*\Z",
    re.DOTALL | re.MULTILINE,
)
"""What the layout must read like to be called as the page calls it."""
_HINT = 'pip install "fxprune[viz]"'


def page_of(data: dict[str, Any]) -> str:
    """The page that shows some data (`page_data`), the same for the same data.

    Raises:
        InputError: the package netron, which has the layout, is missing or of another form.
    """
    script = "\n".join(map(_read, _SCRIPTS))
    parts = {
        "title": escape(f"{data['name']}: channels"),
        "style": _read("page.css"),
        "layout": layout_script(),
        "licence": _read("licences.txt"),
        "script": script,
        "data": _embedded(data),
    }
    sources = " ".join(_digest(parts[name]) for name in ("layout", "script"))
    parts["policy"] = (
        f"default-src 'none'; script-src {sources}; style-src {_digest(parts['style'])}; "
        "base-uri 'none'; form-action 'none'"
    )
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("page.html"))


def layout_script() -> str:
    """The script that lays graphs out: dagre, as the package netron ships it.

    Raises:
        InputError: it is missing, or of another form.
    """
    try:
        text = files("netron").joinpath("dagre.js").read_text(encoding="utf-8")
        release = version("netron")
    except (ModuleNotFoundError, PackageNotFoundError, OSError) as error:
        raise InputError(
            "nothing is there to lay out a page",
            why="the package netron is missing, which has the layout for browsers",
            hint=f"{_HINT}, or write .svg or .dot",
        ) from error
    found = _FORM.search(text)
    if found is None or "</script" in text.lower() or "<!--" in text:
        raise InputError(
            f"the layout in netron {release} is not of the form that is known",
            why="fxprune calls the file dagre.js of that package",
            hint=f"{_HINT}, which takes a version that is known",
        )
    text = text[: found.start("exports")].strip()
    return f"// dagre.js of the Python package netron {release}, see the licences above.\n{text}\n"


def _read(name: str) -> str:
    """A file of the page."""
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _embedded(data: dict[str, Any]) -> str:
    """Data as JSON that nothing in it can end: no tag, no comment, no line separator."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _digest(text: str) -> str:
    """What allows one script or style and no other."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
