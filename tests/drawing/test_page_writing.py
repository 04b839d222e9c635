"""A page holds all that it needs, reads nothing else, and nothing in it is taken for markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import fxprune
from fxprune.drawing import page_writing, picture_of
from fxprune.drawing.building import Builder
from fxprune.drawing.page_data import page_data
from fxprune.drawing.page_writing import layout_script, page_of
from fxprune.drawing.series import RATIOS, series_of
from tests.drawing.models import IMAGE, named, residual

pytest.importorskip("netron")

EVIL = "</script><!--<script><img src=x onerror=alert(1)>\u2028{{data}}"


def data_of(*inner: int, ratio: float | None = None, fold: bool = True) -> dict[str, Any]:
    deps = residual(*inner)
    plan = None if ratio is None else fxprune.plan(deps, IMAGE, ratio=ratio)
    builder = Builder(deps, plan, "module")
    return page_data(builder.picture(), series_of(builder), fold=fold)


class Parts(HTMLParser):
    """The tags of a page, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        fxprune.draw(residual(6, 6, 4), tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_page_names_no_other_file_and_forbids_the_network() -> None:
    text = page_of(data_of(6, ratio=0.5))
    tags = Parts(text).tags
    assert not any({"src", "href", "style", "action"} & attributes.keys() for _, attributes in tags)
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    (policy,) = (a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_scripts_take_no_text_for_markup_and_ask_for_nothing() -> None:
    folder = Path(page_writing.__file__).parent / "page"
    for path in folder.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert path.name in page_writing._SCRIPTS
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "fetch(",
        ):
            assert word not in text, (path.name, word)


def test_names_are_data_and_never_markup() -> None:
    deps = residual(6)
    builder = Builder(deps, None, "module")
    data = page_data(named(EVIL), series_of(builder))
    text = page_of(data)
    parts = Parts(text)
    assert [tag for tag, _ in parts.tags if tag == "img"] == []
    assert [tag for tag, _ in parts.tags].count("script") == 3
    assert json.loads(parts.scripts[0]) == json.loads(json.dumps(data))
    assert "onerror=alert(1)&gt;" in text.partition("</title>")[0]


def test_every_place_of_the_template_is_filled() -> None:
    assert re.search(r"\{\{\w+\}\}", page_of(data_of(6))) is None


def test_the_layout_says_where_it_comes_from() -> None:
    text = page_of(data_of(6))
    assert "dagre.js of the Python package netron" in text
    assert "Permission is hereby granted, free of charge" in text
    assert "export" not in layout_script().splitlines()[-1]


@pytest.mark.parametrize("change", ["missing", "renamed", "other arguments", "markup"])
def test_a_layout_that_is_missing_or_of_another_form_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    text = (page_writing.files("netron") / "dagre.js").read_text(encoding="utf-8")
    if change == "renamed":
        text = text.replace("export const { layout, Graph } = dagre;", "export default dagre;")
    elif change == "other arguments":
        text = text.replace("(nodes, edges, layout, state) =>", "(graph) =>")
    elif change == "markup":
        text += "\n// </script>"
    if change != "missing":
        (tmp_path / "dagre.js").write_text(text, encoding="utf-8")
    known = page_writing.files

    def found(name: str) -> Any:
        return tmp_path if name == "netron" else known(name)

    monkeypatch.setattr(page_writing, "files", found)
    with pytest.raises(fxprune.InputError, match=r'pip install "fxprune\[viz\]"'):
        fxprune.draw(residual(6), tmp_path / "model.html")
    assert not (tmp_path / "model.html").exists()


def test_series_that_stay_the_same_are_one_number() -> None:
    data = data_of(6, ratio=0.5)
    by_name = {node["name"]: node for node in data["nodes"]}
    assert by_name["x"]["parameters"] == 0
    assert len(by_name["stem"]["parameters"]) == len(RATIOS) + 1
    assert data["groups"][data["nodes"][1]["group"]]["widths"][-1] == 4


def test_edges_tell_what_flows_where_blocks_are_folded() -> None:
    data = data_of(6, 6, 6)
    assert list(data["folds"]) == ["blocks.0"]
    names = [node["name"] for node in data["nodes"]]
    ends = {(names[source], names[target]) for source, target, _ in data["edges"]}
    assert {("stem", "blocks_0_conv1"), ("add", "mean")} <= ends
    assert all(values for _, _, values in data["edges"])
    stood = {node["name"]: node["repeats"] for node in data["nodes"] if node["repeats"]}
    assert stood["blocks_0_conv1"] == ["blocks.1.conv1", "blocks.2.conv1"]
    told = {data["groups"][g]["name"] for n in data["nodes"] for g in n["repeated"]}
    assert told == {"blocks.1.conv1", "blocks.2.conv1"}


def test_without_folding_every_block_is_told() -> None:
    data = data_of(6, 6, fold=False)
    assert data["folds"] == {}
    assert len(data["nodes"]) == len(picture_of(residual(6, 6)).nodes)


def test_what_is_pinned_has_its_reason() -> None:
    data = data_of(6)
    head = next(node for node in data["nodes"] if node["name"] == "head")
    reason = data["reasons"][head["pinned"]]
    assert reason["what"] == "output of the model"
    assert "outputs keep their shape" in reason["why"]
    assert head["tells"]
