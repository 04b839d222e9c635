"""The layout: what is left of every axis of every tensor."""

import numpy as np
import pytest
import torch

import fxprune
from fxprune import PlanError
from fxprune.planning import Layout
from tests.planning.models import analyzed_chain, zoo


@pytest.mark.parametrize("name", ["residual", "classic_cnn", "channel_shuffle", "grouped_conv"])
def test_predicted_shapes_are_the_old_ones_without_the_removed_positions(name: str) -> None:
    deps = zoo(name)
    plan = fxprune.plan(deps, ratio=0.5)
    layout = plan.layout(deps)
    for parameter, axes in deps.trace.axes.items():
        removed = plan.slices.get(parameter, {})
        before = deps.state[parameter].shape
        expected = [size - len(removed.get(dim, ())) for dim, size in enumerate(before)]
        assert [layout.size(axis) for axis in axes] == expected


def test_kept_and_removed_positions_divide_an_axis() -> None:
    deps = zoo("classic_cnn")
    layout = fxprune.plan(deps, ratio=0.5).layout(deps)
    axis = deps.trace.axes["fc1.weight"][1]
    removed = layout.removed_positions(axis, deps.trace.labels)
    kept = layout.kept(axis)
    assert kept is not None
    np.testing.assert_array_equal(kept, np.flatnonzero(~removed))
    assert len(kept) == layout.size(axis) == 4 * 49


def test_an_axis_that_keeps_all_has_no_list_of_kept_positions() -> None:
    deps = zoo("classic_cnn")
    layout = fxprune.plan(deps, ratio=0.5).layout(deps)
    assert layout.kept(deps.trace.axes["fc2.weight"][0]) is None


def test_values_of_nodes_have_predicted_shapes() -> None:
    deps = zoo("classic_cnn")
    layout = fxprune.plan(deps, ratio=0.5).layout(deps)
    shapes = {node: [layout.shape(t) for t in layout.tensors(node)] for node in deps.trace.values}
    assert shapes["conv1"] == [(2, 2, 28, 28)]
    assert shapes["flatten"] == [(2, 4 * 49)]
    assert shapes["fc2"] == [(2, 10)]


def test_a_removal_that_empties_an_axis_is_refused_with_its_name() -> None:
    deps = analyzed_chain(3, 8, 2)
    with pytest.raises(PlanError, match=r"nothing would be left of 0\.weight, dim 0") as caught:
        Layout(deps, deps.group("0").ids)
    assert "at least one" in caught.value.hint


def test_a_layout_without_removals_changes_no_shape() -> None:
    deps = zoo("residual")
    layout = Layout(deps, np.zeros(0, dtype=np.int64))
    assert layout.slices == {}
    for name, axes in deps.trace.axes.items():
        assert torch.Size(map(layout.size, axes)) == deps.state[name].shape
