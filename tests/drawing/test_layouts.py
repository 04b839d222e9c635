"""Layout: which program, what it gives, and what is said if there is none."""

from __future__ import annotations

import shutil
import sysconfig
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import fxprune
from fxprune.drawing import dot_of, layouts, picture_of
from fxprune.drawing.layouts import rendered, renderer
from tests.drawing.models import named, residual

DOT = shutil.which("dot")
PURE = shutil.which("graphviz-pure") or shutil.which(
    "graphviz-pure", path=sysconfig.get_path("scripts")
)
SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
needs_layout = pytest.mark.skipif(not (DOT or PURE), reason="neither dot nor graphviz-pure")


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the only place where programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(layouts.sysconfig, "get_path", lambda name: str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, script: str = "") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_a_program_it_is_said_what_to_install(empty: Path) -> None:
    with pytest.raises(fxprune.InputError, match=r'pip install "fxprune\[viz\]"'):
        renderer("svg")
    assert renderer("dot") is None


def test_the_system_s_dot_comes_first(empty: Path) -> None:
    pure = program(empty, "graphviz-pure")
    assert renderer("svg") == str(pure)
    dot = program(empty, "dot")
    assert renderer("svg") == str(dot)
    assert renderer("pdf") == str(dot)


def test_pdf_is_refused_where_only_graphviz_pure_is(empty: Path) -> None:
    program(empty, "graphviz-pure")
    with pytest.raises(fxprune.InputError, match=r"write \.svg"):
        renderer("pdf")


def test_what_a_program_says_when_it_fails_is_passed_on(empty: Path) -> None:
    program(empty, "dot", "echo 'no such format' >&2; exit 1")
    with pytest.raises(fxprune.FxPruneError, match="no such format"):
        rendered("digraph {}", "svg")


def test_a_program_that_writes_nothing_has_failed(empty: Path) -> None:
    program(empty, "dot", "exit 0")
    with pytest.raises(fxprune.FxPruneError, match="could not lay out"):
        rendered("digraph {}", "svg")


@needs_layout
def test_an_svg_is_xml_with_the_names_as_they_are() -> None:
    name = 'a<b>&amp;"c"\\N'
    root = ET.fromstring(rendered(dot_of(named(name)), "svg"))
    texts = {(element.text or "").strip() for element in root.iter(f"{SVG}text")}
    assert name in texts
    tooltips = {link.get(f"{LINK}title", "") for link in root.iter(f"{SVG}a")}
    assert any(f"source: {name}" in tooltip for tooltip in tooltips)


@needs_layout
def test_a_name_can_be_blank() -> None:
    assert ET.fromstring(rendered(dot_of(named(" ")), "svg")).tag == f"{SVG}svg"


@needs_layout
def test_a_png_is_one() -> None:
    assert rendered(dot_of(picture_of(residual(6))), "png").startswith(b"\x89PNG")


@needs_layout
def test_the_same_picture_gives_the_same_bytes() -> None:
    dot = dot_of(picture_of(residual(6, 6, 4)))
    assert rendered(dot, "svg") == rendered(dot, "svg")


@pytest.mark.skipif(not DOT, reason="no dot")
def test_a_pdf_is_one() -> None:
    assert rendered(dot_of(picture_of(residual(6))), "pdf").startswith(b"%PDF")
