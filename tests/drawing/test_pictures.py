"""Parts of pictures."""

from __future__ import annotations

import pytest

import fxprune
from fxprune.drawing import Picture, picture_of
from tests.drawing.models import residual


@pytest.fixture(scope="module")
def picture() -> Picture:
    return picture_of(residual(6, 4))


def inside(picture: Picture) -> set[str]:
    return {node.name for node in picture.nodes} - picture.outside


def test_what_is_around_a_module_is_so_many_edges_away(picture: Picture) -> None:
    block = {"blocks_0_conv1", "blocks_0_conv2", "add"}
    assert inside(picture.around("blocks.0", 0)) == block
    near = block | {"stem", "blocks_1_conv1", "add_1"}
    assert inside(picture.around("blocks.0", 1)) == near
    assert inside(picture.around("blocks.0", 99)) == {node.name for node in picture.nodes}


def test_a_part_shows_what_it_is_cut_off_from(picture: Picture) -> None:
    part = picture.around("blocks.0", 0)
    assert part.outside == {"stem", "blocks_1_conv1", "add_1"}
    assert all({e.source, e.target} - part.outside for e in part.edges)


def test_a_node_is_found_by_any_module_or_operator_in_it(picture: Picture) -> None:
    for name in ("blocks.0.bn1", "blocks_0_bn1", "relu", "blocks.0.conv1"):
        assert inside(picture.around(name, 0)) == {"blocks_0_conv1"}, name


def test_the_part_of_a_group_has_who_makes_it_and_who_reads_it(picture: Picture) -> None:
    assert inside(picture.of_group("blocks.0.conv1")) == {"blocks_0_conv1", "blocks_0_conv2"}


def test_a_part_of_a_part_does_not_grow(picture: Picture) -> None:
    part = picture.of_group("blocks.0.conv1").around("blocks.0.conv1", 5)
    assert inside(part) == {"blocks_0_conv1", "blocks_0_conv2"}


@pytest.mark.parametrize("name", ["block.0", "", "blocks.0.c"])
def test_what_is_not_there_is_refused(picture: Picture, name: str) -> None:
    with pytest.raises(fxprune.InputError, match="no module or node"):
        picture.around(name)


def test_a_group_that_is_not_there_is_refused_with_the_nearest_name(picture: Picture) -> None:
    with pytest.raises(fxprune.InputError, match="stem"):
        picture.of_group("sten")
