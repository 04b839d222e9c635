"""Pictures in DOT: to the letter, and with names that try to get out of their quotes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from torch import Tensor, nn

import fxprune
from fxprune.drawing import dot_of, picture_of
from fxprune.drawing.sharing import shared
from tests.drawing.golden import FOLDER, texts
from tests.drawing.models import IMAGE, Dense, analyzed, named, residual

NASTY = '"];x->y;<b>&amp;\\N\n\x1b[2J'


def test_the_pictures_are_what_they_were() -> None:
    found = texts()
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(found)
    for name, text in found.items():
        assert text == (FOLDER / name).read_text(encoding="utf-8"), name


def test_the_same_picture_gives_the_same_text() -> None:
    assert dot_of(picture_of(residual(6, 4))) == dot_of(picture_of(residual(6, 4)))


def unquoted(dot: str) -> str:
    """What is left of DOT without its quoted strings and the text of its HTML-like labels."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', "", dot)
    return re.sub(r">[^<>]*<", "><", plain)


def test_names_stay_in_their_quotes() -> None:
    nasty, tame = dot_of(named(NASTY)), dot_of(named("name"))
    assert "\x1b" not in nasty
    assert "\n" not in "".join(re.findall(r'"(?:[^"\\]|\\.)*"', nasty))
    # Everything but texts is the same: no tag, statement or attribute came in with the name.
    assert unquoted(nasty) == unquoted(tame)


def test_a_hatched_node_tells_its_reason_once() -> None:
    text = dot_of(picture_of(residual(6)))
    assert text.count("must stay: output of the model") == 1
    assert text.count('style="striped"') == 1


class Added(nn.Module):
    """The image is added to what a convolution makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu() + x)


def test_where_channels_meet_what_must_stay_the_border_is_red() -> None:
    lines = dot_of(picture_of(analyzed(Added()))).splitlines()
    red = [line.split('"')[1] for line in lines if 'color="#AA0000"' in line]
    assert red == ["relu"]  # which is a node together with the sum
    (conv,) = (line for line in lines if line.startswith('  "conv" ['))
    assert "must stay: input x of the model" in conv


def test_a_very_large_picture_has_widths_in_its_nodes_only() -> None:
    text = dot_of(picture_of(analyzed(Dense(31))))
    edges = [line for line in text.splitlines() if " -> " in line]
    assert len(edges) > 500
    assert not any(" label=" in edge for edge in edges)
    assert text.count("out: ") == text.count('fillcolor="') - 1  # all but the output


def test_larger_shares_of_the_parameters_are_larger() -> None:
    picture = picture_of(residual(6))
    widths = {
        name: float(width)
        for name, width in re.findall(
            r'^ *"(\w+)" \[.*?width=([\d.]+)', dot_of(picture), re.MULTILINE
        )
    }
    by_share = sorted(picture.nodes, key=lambda node: node.share)
    assert [widths[n.name] for n in by_share] == sorted(widths.values())


def test_a_node_that_goes_is_dashed() -> None:
    deps = residual(6)
    plan = fxprune.plan(deps, IMAGE, channels={"blocks.0.conv1": list(range(6))})
    (line,) = (
        n for n in dot_of(picture_of(deps, plan)).splitlines() if '  "blocks_0_conv1" [' in n
    )
    assert 'style="dashed"' in line
    assert "450 → 0" in line


def test_a_block_that_is_dropped_is_told() -> None:
    model = residual(6, 6).model
    plan = fxprune.plan(model, IMAGE, drop=["blocks.1"])
    assert "dropped whole: blocks.1" in dot_of(picture_of(plan.analyze(model, IMAGE), plan))


def test_a_width_is_told_once_by_a_node_that_many_read() -> None:
    text = dot_of(picture_of(analyzed(Dense(6))))
    edges = [line for line in text.splitlines() if line.startswith('  "stem" -> ')]
    assert len(edges) > 4
    assert not any(" label=" in edge for edge in edges)
    (stem,) = (line for line in text.splitlines() if line.startswith('  "stem" ['))
    assert "out: 4" in stem


def test_edges_that_stand_for_many_are_dashed_and_in_the_legend() -> None:
    text = dot_of(shared(picture_of(analyzed(Dense(8)))))
    assert 'style="dashed", color="#888888", tooltip="cat_' in text
    assert "dashed edge: reads all that the other node reads" in text


@pytest.mark.parametrize("count", [9, 20])
def test_the_legend_has_no_more_rows_than_there_are_colours(count: int) -> None:
    picture = picture_of(residual(6))
    group = picture.groups["stem"]
    many = {f"g{k}": replace(group, name=f"g{k}", colour=k) for k in range(count)}
    nodes = tuple(replace(picture.nodes[1], name=f"n{k}", group=f"g{k}") for k in range(count))
    text = dot_of(replace(picture, nodes=nodes, edges=(), groups=picture.groups | many))
    assert f"and {count - 8} more groups" in text
