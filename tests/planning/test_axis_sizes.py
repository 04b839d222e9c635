"""The sizes of axes after a removal are the numbers of positions without removed ids."""

import numpy as np
import pytest

from fxprune.labels import Axis
from fxprune.labels.masks import mask
from fxprune.planning.axis_sizes import AxisSizes
from models_zoo import ZOO
from tests.planning.models import zoo


@pytest.mark.parametrize("name", ZOO)
def test_sizes_are_those_of_the_masks(name: str) -> None:
    deps = zoo(name)
    labels = deps.trace.labels
    axes = deps.trace.all_axes
    sizes = AxisSizes(axes, labels)
    for seed in range(4):
        removed = np.random.default_rng(seed).random(len(labels)) < seed / 4
        removed[0] = False
        found = sizes.of(removed)
        assert found[0] == 1
        for axis in axes:
            number = sizes.number(axis)
            expected = axis.size - mask(labels, axis, removed).sum()
            assert expected == (axis.size if number is None else found[number])


def test_axes_with_the_same_channels_in_another_order_share_a_number() -> None:
    labels = zoo("classic_cnn").trace.labels.copy()
    ids = labels.fresh(6)
    one, two = Axis(6, (ids,)), Axis(6, (ids[::-1].copy(),))
    merged, both = Axis(12, (np.tile(ids, 2),)), Axis(6, (ids, ids[::-1].copy()))
    sizes = AxisSizes([one, two, merged, both], labels)
    assert sizes.number(one) == sizes.number(two)
    assert len({sizes.number(axis) for axis in (one, merged, both)}) == 3


def test_an_axis_that_stays_has_no_number() -> None:
    labels = zoo("classic_cnn").trace.labels.copy()
    pinned = labels.pinned_axis(5, "a test")
    sizes = AxisSizes([pinned], labels)
    assert sizes.number(pinned) is None
    assert sizes.of(np.ones(len(labels), dtype=np.bool_)).shape == (1,)
