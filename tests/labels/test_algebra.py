"""One operation of the label algebra at a time."""

import numpy as np
import pytest

from fxprune.labels import Axis, LabelAlgebra, algebra
from fxprune.labels.masks import free_ids


@pytest.fixture
def labels() -> LabelAlgebra:
    labels = LabelAlgebra()
    labels.place = "here"
    return labels


def vectors(labels: LabelAlgebra, axis: Axis) -> list[list[int]]:
    return [vector.tolist() for vector in labels.leaves(axis)]


def test_a_fresh_axis_has_one_free_id_for_each_position(labels: LabelAlgebra) -> None:
    assert vectors(labels, labels.fresh_axis(3)) == [[1, 2, 3]]
    assert vectors(labels, labels.fresh_axis(2)) == [[4, 5]]


@pytest.mark.parametrize("size", [0, 1])
def test_a_fresh_axis_of_fewer_than_two_positions_is_pinned(
    labels: LabelAlgebra, size: int
) -> None:
    assert vectors(labels, labels.fresh_axis(size)) == []


def test_copies_are_free_and_written_down(labels: LabelAlgebra) -> None:
    assert vectors(labels, labels.copies_axis(3)) == [[1, 2, 3]]
    assert [ids.tolist() for ids, _ in labels.copy_ids] == [[1, 2, 3]]


def test_a_pinned_axis_knows_why(labels: LabelAlgebra) -> None:
    assert labels.reason_of(labels.pinned_axis(3, "an output")) == "an output"
    assert labels.reason_of(labels.pinned_axis(3)) == "here"
    assert labels.reason_of(labels.fresh_axis(3)) is None


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, 3), [2, 3]),
        (slice(None, None, -1), [4, 3, 2, 1]),
        (slice(None, None, 2), [1, 3]),
        ([3, 0, 3], [4, 1, 4]),
        (np.array([False, True, True, False]), [2, 3]),
    ],
)
def test_take_moves_ids_as_numpy_moves_numbers(
    labels: LabelAlgebra, index: object, expected: list[int]
) -> None:
    assert vectors(labels, labels.take(labels.fresh_axis(4), index)) == [expected]


def test_taking_nothing_gives_an_empty_axis(labels: LabelAlgebra) -> None:
    assert labels.take(labels.fresh_axis(4), slice(2, 2)).size == 0


def test_taking_a_single_position_pins_it_and_no_other(labels: LabelAlgebra) -> None:
    axis = labels.fresh_axis(4)
    labels.take(axis, slice(2, 3))
    assert vectors(labels, axis) == [[1, 2, 0, 4]]
    assert labels.reason_of(axis) == "here"


def test_concat_keeps_the_order_of_its_parts(labels: LabelAlgebra) -> None:
    a, b = labels.fresh_axis(2), labels.fresh_axis(3)
    assert vectors(labels, labels.concat([b, a, b])) == [[3, 4, 5, 1, 2, 3, 4, 5]]


def test_concat_of_pinned_and_free_parts_pins_only_the_pinned_ones(labels: LabelAlgebra) -> None:
    joined = labels.concat([labels.pinned_axis(2, "an input"), labels.fresh_axis(2)])
    assert vectors(labels, joined) == [[0, 0, 1, 2]]
    assert labels.reason_of(joined) == "an input"


def test_concat_of_parts_with_several_vectors_fills_up_with_zeros(labels: LabelAlgebra) -> None:
    a, b = labels.fresh_axis(2), labels.fresh_axis(2)
    joined = labels.concat([labels.merge([a, b]), a])
    assert vectors(labels, joined) == [[1, 1, 2, 2, 1, 2], [3, 4, 3, 4, 0, 0]]


def test_merge_repeats_the_first_axis_and_tiles_the_last(labels: LabelAlgebra) -> None:
    a, b, c = labels.fresh_axis(2), labels.pinned_axis(2), labels.fresh_axis(2)
    assert vectors(labels, labels.merge([a, b, c])) == [
        [1, 1, 1, 1, 2, 2, 2, 2],
        [3, 4, 3, 4, 3, 4, 3, 4],
    ]


def test_merging_with_an_empty_axis_gives_an_empty_axis(labels: LabelAlgebra) -> None:
    assert labels.merge([labels.fresh_axis(2), labels.fresh_axis(0)]).size == 0


def test_split_undoes_a_merge(labels: LabelAlgebra) -> None:
    a, b = labels.fresh_axis(3), labels.fresh_axis(4)
    rows, columns = labels.split(labels.merge([a, b]), 3, 4)
    assert (vectors(labels, rows), vectors(labels, columns)) == ([[1, 2, 3]], [[4, 5, 6, 7]])
    assert labels.refinements == []


def test_splitting_free_ids_gives_new_rows_and_columns(labels: LabelAlgebra) -> None:
    axis = labels.fresh_axis(6)
    rows, columns = labels.split(axis, 2, 3)
    assert (vectors(labels, rows), vectors(labels, columns)) == ([[7, 8]], [[9, 10, 11]])
    assert vectors(labels, axis) == [[7, 7, 7, 8, 8, 8], [9, 10, 11, 9, 10, 11]]


def test_splitting_off_one_row_or_column_changes_nothing(labels: LabelAlgebra) -> None:
    axis = labels.fresh_axis(6)
    row, columns = labels.split(axis, 1, 6)
    rows, column = labels.split(axis, 6, 1)
    assert columns is rows is axis
    assert (row.size, column.size) == (1, 1)
    assert labels.refinements == []


def test_split_notes_which_part_a_user_would_call_channels(labels: LabelAlgebra) -> None:
    labels.split(labels.fresh_axis(6), 2, 3)
    labels.split(labels.fresh_axis(6), 2, 3, prefer_rows=True)
    assert [refinement.prefer_rows for refinement in labels.refinements] == [False, True]


def test_splitting_a_pinned_axis_gives_pinned_parts_with_its_reason(labels: LabelAlgebra) -> None:
    parts = labels.split(labels.pinned_axis(6, "an input"), 2, 3)
    assert [labels.reason_of(part) for part in parts] == ["an input", "an input"]


def test_unify_makes_positions_one(labels: LabelAlgebra) -> None:
    a, b = labels.fresh_axis(3), labels.fresh_axis(3)
    labels.unify(a, labels.take(b, slice(None, None, -1)))
    assert vectors(labels, b) == [[3, 2, 1]]


def test_unify_of_two_columns_leaves_the_shared_rows_alone(labels: LabelAlgebra) -> None:
    rows, a, b = (labels.fresh_axis(3) for _ in range(3))
    labels.unify(labels.merge([rows, a]), labels.merge([rows, b]))
    assert vectors(labels, rows) == [[1, 2, 3]]
    assert vectors(labels, a) == vectors(labels, b) == [[4, 5, 6]]


def test_unify_with_a_pinned_axis_pins_for_its_reason(labels: LabelAlgebra) -> None:
    axis = labels.fresh_axis(3)
    labels.unify(axis, labels.pinned_axis(3, "an input"))
    assert vectors(labels, axis) == []
    assert labels.reason_of(axis) == "an input"


def test_unify_of_an_axis_with_a_rotation_of_itself_makes_all_positions_one(
    labels: LabelAlgebra,
) -> None:
    axis = labels.fresh_axis(5)
    labels.unify(axis, labels.take(axis, [4, 0, 1, 2, 3]))
    assert vectors(labels, axis) == [[1, 1, 1, 1, 1]]


def test_pin_axis_pins_for_the_given_reason_or_for_the_place(labels: LabelAlgebra) -> None:
    a, b = labels.fresh_axis(2), labels.fresh_axis(2)
    labels.pin_axis(a, "softmax")
    labels.pin_axis(b)
    assert (labels.reason_of(a), labels.reason_of(b)) == ("softmax", "here")


def test_mark_batch_notes_the_rows_that_are_heads(labels: LabelAlgebra) -> None:
    labels.mark_batch(labels.fresh_axis(3), [labels.fresh_axis(2), labels.pinned_axis(4)])
    assert [ids.tolist() for ids in labels.batch_ids] == [[1, 2, 3]]
    assert [ids.tolist() for ids in labels.inner_ids] == [[4, 5]]


@pytest.mark.parametrize("shape", [[2, 3, 4], [1, 2, 1, 3, 4, 1]])
def test_reshape_to_the_same_sizes_keeps_the_axes(labels: LabelAlgebra, shape: list[int]) -> None:
    axes = [labels.fresh_axis(size) for size in (2, 3, 4)]
    after = labels.reshape(axes, shape)
    assert [axis for axis in after if axis.size > 1] == axes


def test_reshape_flattens_and_unflattens(labels: LabelAlgebra) -> None:
    axes = [labels.fresh_axis(size) for size in (2, 3, 4)]
    (flat,) = labels.reshape(axes, [24])
    again = labels.reshape([flat], [2, 3, 4])
    assert [vectors(labels, axis) for axis in again] == [vectors(labels, axis) for axis in axes]


def test_reshape_at_cuts_that_do_not_fit_pins_all(labels: LabelAlgebra) -> None:
    axes = [labels.fresh_axis(4), labels.fresh_axis(6)]
    after = labels.reshape(axes, [6, 4])
    assert free_ids(labels, *axes, *after) == set()
    assert labels.reason_of(after[0]) == "here"


def test_reshape_of_an_empty_tensor_pins_all(labels: LabelAlgebra) -> None:
    axes = [labels.fresh_axis(4), labels.fresh_axis(0)]
    assert [axis.size for axis in labels.reshape(axes, [0, 8])] == [0, 8]
    assert free_ids(labels, *axes) == set()


def test_reshape_leaves_other_blocks_alone(labels: LabelAlgebra) -> None:
    bad, good = [labels.fresh_axis(4), labels.fresh_axis(6)], labels.fresh_axis(5)
    after = labels.reshape([*bad, good], [6, 4, 5])
    assert after[2] is good
    assert free_ids(labels, good) == {11, 12, 13, 14, 15}


def test_an_axis_prints_its_ids(labels: LabelAlgebra) -> None:
    rows, columns = labels.fresh_axis(2), labels.fresh_axis(2)
    assert repr(labels.merge([rows, columns])) == "Axis(4: [1, 1, 2, 2] | [3, 4, 3, 4])"
    assert repr(labels.pinned_axis(2)) == "Axis(2: pinned)"


def test_axes_that_are_too_long_for_labels_are_pinned_with_all_that_they_are_made_of(
    labels: LabelAlgebra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(algebra, "_LONGEST", 100)
    rows, columns = labels.fresh_axis(20), labels.fresh_axis(6)
    flat = labels.merge([rows, columns])
    assert (flat.size, flat.vectors) == (120, ())
    assert not labels.leaves(rows)
    assert not labels.leaves(columns)
    rest = labels.fresh_axis(50)
    both = labels.concat([rest, labels.pinned_axis(1 << 60)])
    assert (both.size, both.vectors) == (50 + (1 << 60), ())
    assert not labels.leaves(rest)
    assert labels.fresh_axis(101).vectors == labels.copies_axis(101).vectors == ()
    assert labels.take(labels.pinned_axis(1 << 60), slice(1, None, 2)).size == 1 << 59


def test_the_reason_for_a_pinned_position_comes_before_an_inherited_one(
    labels: LabelAlgebra,
) -> None:
    joined = labels.concat([labels.pinned_axis(2, "an input"), labels.fresh_axis(2)])
    labels.pin(joined.vectors[0][2:3], "a window")
    assert labels.reason_of(joined) == "a window"


def test_two_ways_to_cut_an_axis_meet_at_their_common_refinement(labels: LabelAlgebra) -> None:
    by_six = labels.merge([labels.fresh_axis(6), labels.fresh_axis(4)])
    by_two = labels.merge([labels.fresh_axis(2), labels.fresh_axis(12)])
    labels.unify(by_six, by_two)
    assert [(len(r.rows), len(r.columns)) for r in labels.refinements] == [(2, 3)]
    assert len(free_ids(labels, by_six)) == 2 + 3 + 4
    assert sorted(vectors(labels, by_six)) == sorted(vectors(labels, by_two))
