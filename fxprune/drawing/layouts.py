"""From DOT to images, by a program that lays graphs out."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig

from fxprune.errors import FxPruneError, InputError

FORMATS = ("dot", "svg", "png", "pdf")
"""The kinds of files that are made of DOT, by their suffix."""
_TIMEOUT = 600
"""Seconds after which a layout is given up."""


def renderer(kind: str) -> str | None:
    """The program that makes images of a kind; None for DOT, which takes none.

    It is the system's `dot`, else the command `graphviz-pure` of the extra `viz`.

    Raises:
        InputError: there is none, or it does not write that kind.
    """
    if kind == "dot":
        return None
    if (system := shutil.which("dot")) is not None:
        return system
    if kind == "pdf":
        raise InputError(
            "PDF takes Graphviz, and there is no command dot",
            why="graphviz-pure, which lays out without it, writes no PDF",
            hint="install Graphviz (apt-get install graphviz, brew install graphviz), or write .svg"
            " and print that to a PDF in a browser",
        )
    folder = sysconfig.get_path("scripts")
    found = shutil.which("graphviz-pure") or shutil.which("graphviz-pure", path=folder)
    if found is None:
        raise InputError(
            f"nothing is there to lay out a .{kind}",
            why="there is neither a command dot nor graphviz-pure",
            hint='pip install "fxprune[viz]", or install Graphviz, or write .dot',
        )
    return found


def rendered(dot: str, kind: str) -> bytes:
    """An image of a graph, as the content of a file.

    Args:
        dot: the graph in DOT.
        kind: one of `FORMATS`.

    Raises:
        InputError: see `renderer`.
        FxPruneError: the program failed, or took too long.
    """
    program = renderer(kind)
    text = dot.encode()
    if program is None:
        return text
    failure = f"{program} could not lay out the picture"
    hint = "draw a part of it (around=, group=), or write .dot"
    try:
        done = subprocess.run(
            [program, f"-T{kind}"], input=text, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FxPruneError(failure, why=f"it took over {_TIMEOUT} seconds", hint=hint) from error
    except OSError as error:
        raise FxPruneError(failure, why=str(error), hint=hint) from error
    if done.returncode or not done.stdout:
        why = done.stderr.decode(errors="replace").strip()[-500:]
        raise FxPruneError(failure, why=why, hint=hint)
    return done.stdout
