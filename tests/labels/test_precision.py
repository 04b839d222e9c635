"""What must stay free: an algebra that couples or pins more than it has to fails here."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxprune.labels import Axis, LabelAlgebra
from fxprune.labels.masks import free_ids, mask
from tests.labels.masks import random_removals, tensor_mask

FACTORS = st.lists(st.integers(2, 4), min_size=1, max_size=5)


@pytest.fixture
def labels() -> LabelAlgebra:
    return LabelAlgebra()


def sizes(labels: LabelAlgebra, *axes: Axis) -> list[int]:
    """How many free ids each axis carries."""
    return [len(free_ids(labels, axis)) for axis in axes]


def test_refining_twelve_ids_leaves_three_and_four(labels: LabelAlgebra) -> None:
    axis = labels.fresh_axis(12)
    rows, columns = labels.split(axis, 3, 4)
    assert sizes(labels, axis, rows, columns) == [3 + 4, 3, 4]


def grouped(factors: list[int], cuts: list[bool]) -> list[int]:
    """Products of consecutive factors, cut where `cuts` says."""
    groups = [[factors[0]]]
    for factor, cut in zip(factors[1:], cuts, strict=False):
        if cut:
            groups.append([factor])
        else:
            groups[-1].append(factor)
    return [math.prod(group) for group in groups]


@given(FACTORS, st.lists(st.booleans(), min_size=4, max_size=4), st.data())
def test_reshape_leaves_one_free_id_for_each_position_of_the_common_refinement(
    factors: list[int], cuts: list[bool], data: st.DataObject
) -> None:
    other = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))
    labels = LabelAlgebra()
    before = [labels.fresh_axis(size) for size in grouped(factors, cuts)]
    after = labels.reshape(before, grouped(factors, other))
    both = [a or b for a, b in zip(cuts, other, strict=True)]
    assert len(free_ids(labels, *before)) == sum(grouped(factors, both))
    assert free_ids(labels, *before) == free_ids(labels, *after)


@given(FACTORS, st.lists(st.booleans(), min_size=4, max_size=4), st.data())
def test_reshaping_there_and_back_couples_nothing_more(
    factors: list[int], cuts: list[bool], data: st.DataObject
) -> None:
    other = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))
    labels = LabelAlgebra()
    before = [labels.fresh_axis(size) for size in grouped(factors, cuts)]
    after = labels.reshape(before, grouped(factors, other))
    free = free_ids(labels, *before)
    back = labels.reshape(after, grouped(factors, cuts))
    for axis, again in zip(before, back, strict=True):
        labels.unify(axis, again)
    assert free_ids(labels, *before) == free


@pytest.mark.parametrize(("first", "second"), [(4, 8), (8, 4)])
def test_groups_of_four_then_eight_of_24_channels_leave_all_three_digits(
    labels: LabelAlgebra, first: int, second: int
) -> None:
    axis = labels.fresh_axis(24)
    labels.split(axis, first, 24 // first)
    labels.split(axis, second, 24 // second)
    assert sizes(labels, axis) == [4 + 2 + 3]


@pytest.mark.parametrize(("first", "second"), [(4, 6), (6, 4), (2, 3), (3, 2)])
def test_groups_that_do_not_nest_couple_channels_but_pin_none(
    labels: LabelAlgebra, first: int, second: int
) -> None:
    axis = labels.fresh_axis(12)
    parts = [labels.split(axis, groups, 12 // groups) for groups in (first, second)]
    assert all((vector != 0).all() for vector in labels.leaves(axis))
    for removed in random_removals(labels):
        whole = mask(labels, axis, removed).tolist()
        assert [tensor_mask(labels, pair, removed).ravel().tolist() for pair in parts] == [
            whole
        ] * 2


def test_a_shuffle_after_a_concat_keeps_the_columns_free(labels: LabelAlgebra) -> None:
    """ShuffleNet v2: cat, view (2, n), transpose, flatten, halves."""
    left, right = labels.fresh_axis(8), labels.fresh_axis(8)
    halves = labels.reshape([labels.concat([left, right])], [2, 8])
    shuffled = labels.merge(halves[::-1])
    first, second = (labels.take(shuffled, slice(start, start + 8)) for start in (0, 8))
    labels.pin_axis(halves[0])
    assert sizes(labels, left, right, first, second) == [8, 8, 4, 4]


def test_three_way_attention_weights_share_heads_and_head_dims(labels: LabelAlgebra) -> None:
    """One projection of q, k and v, cut by view (3, heads, dims)."""
    qkv = labels.fresh_axis(3 * 4 * 8)
    which, heads, dims = labels.reshape([qkv], [3, 4, 8])
    labels.pin_axis(which)
    assert sizes(labels, qkv, heads, dims) == [4 + 8, 4, 8]


def test_chunks_of_attention_weights_share_heads_while_values_keep_their_own_dims(
    labels: LabelAlgebra,
) -> None:
    qkv = labels.fresh_axis(3 * 4 * 8)
    chunks = [labels.take(qkv, slice(start, start + 32)) for start in (0, 32, 64)]
    (q, q_dim), (k, k_dim), (v, v_dim) = (labels.reshape([chunk], [4, 8]) for chunk in chunks)
    labels.unify(q, k)
    labels.unify(q, v)
    labels.unify(q_dim, k_dim)
    assert sizes(labels, qkv, *chunks) == [4 + 8 + 8, 12, 12, 12]
    assert free_ids(labels, v_dim).isdisjoint(free_ids(labels, q_dim))


def test_a_concat_of_two_widths_stays_free_position_by_position(labels: LabelAlgebra) -> None:
    parts = [labels.fresh_axis(size) for size in (5, 7, 3)]
    joined = labels.concat(parts)
    consumer = labels.fresh_axis(15)
    labels.unify(joined, consumer)
    assert sizes(labels, consumer, *parts) == [15, 5, 7, 3]


def test_flattening_channels_with_pinned_places_keeps_the_channels_free(
    labels: LabelAlgebra,
) -> None:
    channels = labels.fresh_axis(6)
    weight = labels.fresh_axis(24)
    places = [labels.pinned_axis(2), labels.pinned_axis(2)]
    (flat,) = labels.reshape([channels, *places], [24])
    labels.unify(flat, weight)
    assert sizes(labels, channels, weight) == [6, 6]


def test_a_product_of_two_axes_defines_fresh_ids(labels: LabelAlgebra) -> None:
    a, b, weight = labels.fresh_axis(4), labels.fresh_axis(6), labels.fresh_axis(24)
    labels.unify(weight, labels.merge([a, b]))
    assert sizes(labels, a, b, weight) == [4, 6, 4 + 6]


def test_ids_that_repeat_may_still_mean_any_of_two(labels: LabelAlgebra) -> None:
    rows, columns, ids = labels.fresh_axis(2), labels.fresh_axis(4), labels.fresh_axis(4)
    pairs = labels.take(ids, [0, 0, 1, 1, 2, 2, 3, 3])
    labels.unify(pairs, labels.merge([rows, columns]))
    # Columns go in pairs, because the ids do not tell the two of a pair apart.
    assert sizes(labels, rows, columns, ids) == [2, 2, 2 + 2]


def test_two_products_that_nest_are_cut_at_common_places(labels: LabelAlgebra) -> None:
    a, b, c, d = (labels.fresh_axis(size) for size in (4, 6, 8, 3))
    labels.unify(labels.merge([a, b]), labels.merge([c, d]))
    assert sizes(labels, a, b, c, d) == [4, 2 + 3, 4 + 2, 3]


@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5))
def test_pinning_a_slice_leaves_the_rest_free(before: int, inside: int, after: int) -> None:
    labels = LabelAlgebra()
    axis = labels.fresh_axis(before + inside + after)
    labels.pin_axis(labels.take(axis, slice(before, before + inside)))
    assert sizes(labels, axis) == [before + after]


def test_many_channels_are_quick(labels: LabelAlgebra) -> None:
    """Millions of ids in a few array operations; a loop over channels would take minutes."""
    axis = labels.fresh_axis(1 << 18)
    rows, columns = labels.reshape([axis], [1 << 8, 1 << 10])
    (flat,) = labels.reshape([columns, rows], [1 << 18])
    other = labels.fresh_axis(1 << 18)
    labels.unify(flat, other)
    assert len(labels.leaves(other)) == 2
