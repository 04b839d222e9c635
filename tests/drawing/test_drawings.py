"""`fxprune.draw`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fxprune
from fxprune.drawing import Picture
from tests.drawing.models import IMAGE, Residual, residual


def test_a_model_is_drawn_from_its_example_inputs(tmp_path: Path) -> None:
    model = Residual(6).eval()
    path = tmp_path / "model.dot"
    picture = fxprune.draw(model, path, example_inputs=IMAGE)
    assert isinstance(picture, Picture)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("digraph model {")
    again = tmp_path / "deps.dot"
    fxprune.draw(fxprune.analyze(model, IMAGE), str(again))
    assert again.read_text(encoding="utf-8") == text


def test_a_plan_has_the_inputs_and_may_be_a_file(tmp_path: Path) -> None:
    model = Residual(6).eval()
    plan = fxprune.plan(model, IMAGE, ratio=0.5)
    plan.save(tmp_path / "plan.json")
    fxprune.draw(model, tmp_path / "one.dot", plan)
    fxprune.draw(model, tmp_path / "two.dot", tmp_path / "plan.json")
    text = (tmp_path / "one.dot").read_text(encoding="utf-8")
    assert 'label="  8 → 4"' in text
    assert (tmp_path / "two.dot").read_text(encoding="utf-8") == text


def test_a_plan_that_drops_a_block_is_drawn(tmp_path: Path) -> None:
    model = Residual(6, 6).eval()
    plan = fxprune.plan(model, IMAGE, drop=["blocks.0"])
    for given in (model, fxprune.analyze(model, IMAGE)):
        assert fxprune.draw(given, tmp_path / "model.dot", plan).dropped == ("blocks.0",)


def test_repeated_blocks_are_folded_unless_asked_not_to(tmp_path: Path) -> None:
    deps, path = residual(6, 6, 6), tmp_path / "model.dot"
    fxprune.draw(deps, path)
    assert "3 of the same" in path.read_text(encoding="utf-8")
    picture = fxprune.draw(deps, path, fold=False)
    text = path.read_text(encoding="utf-8")
    assert "of the same" not in text
    assert all(f'"{node.name}" [' in text for node in picture.nodes)


def test_a_part_can_be_drawn_of_what_would_be_folded(tmp_path: Path) -> None:
    deps = residual(6, 6, 6)
    picture = fxprune.draw(deps, tmp_path / "part.dot", around="blocks.1.conv1", hops=0)
    assert {node.name for node in picture.nodes} - picture.outside == {"blocks_1_conv1"}
    picture = fxprune.draw(deps, tmp_path / "part.dot", group="blocks.1.conv1")
    assert {n.name for n in picture.nodes} - picture.outside == {"blocks_1_conv1", "blocks_1_conv2"}


def test_without_a_path_no_file_is_written_and_a_notebook_shows_what_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = fxprune.draw(residual(6, 6, 6))
    assert repr(picture) == "<Picture of Residual: 14 nodes, 16 edges>"
    assert list(tmp_path.iterdir()) == []
    svg = picture._repr_svg_()
    assert svg is not None
    assert "3 of the same" in svg


def test_a_picture_that_cannot_be_laid_out_has_no_svg(monkeypatch: pytest.MonkeyPatch) -> None:
    def renderer(kind: str) -> str:
        raise fxprune.InputError(f"nothing lays out a {kind}")

    monkeypatch.setattr("fxprune.drawing.layouts.renderer", renderer)
    assert fxprune.draw(residual(6))._repr_svg_() is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model.jpg", {}, "does not end with a kind of picture"),
        ("model", {}, r"take one of \.dot, \.svg, \.png, \.pdf, \.html"),
        ("model.html", {"around": "stam"}, "stem"),
        ("model.dot", {"level": "layer"}, "level is 'layer'"),
        ("model.dot", {"hops": -1}, "hops is -1"),
        ("model.dot", {"hops": True}, "hops is True"),
        ("model.dot", {"around": "stam"}, "stem"),
        ("model.dot", {"group": "nobody"}, "no group is named 'nobody'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(fxprune.InputError, match=message):
        fxprune.draw(residual(6), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_of_another_model_is_refused(tmp_path: Path) -> None:
    plan = fxprune.plan(residual(4), IMAGE, ratio=0.5)
    for other in (Residual(6).eval(), residual(6)):
        with pytest.raises(fxprune.PlanError, match="another model"):
            fxprune.draw(other, tmp_path / "model.dot", plan)


def test_a_model_without_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(fxprune.InputError, match="example inputs are missing"):
        fxprune.draw(Residual(6).eval(), tmp_path / "model.dot")
