"""The store of ids: unions, pins, composites, and what becomes of many ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxprune.labels import LabelStore

PAIRS = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), max_size=30)


def store_of(count: int = 20) -> LabelStore:
    store = LabelStore()
    store.fresh(count)
    return store


def connected(pairs: list[tuple[int, int]], count: int = 20) -> list[int]:
    """The smallest id of each id's class, found the slow way."""
    smallest = list(range(count + 1))
    for _ in range(count):
        for a, b in pairs:
            smallest[a] = smallest[b] = min(smallest[a], smallest[b])
    return smallest


def test_fresh_ids_are_new_and_never_zero() -> None:
    store = LabelStore()
    ids = np.concatenate([store.fresh(3), store.fresh(0), store.fresh(5000), store.fresh(2)])
    assert ids.tolist() == list(range(1, 5006))
    assert len(store) == 5006


def test_growing_forgets_neither_unions_nor_pins_nor_composites() -> None:
    store = LabelStore()
    a = store.fresh(4)
    store.union(a[:1], a[1:2], "here")
    store.pin(a[2:3], "there")
    store.define(a[3:], [store.fresh(1), store.fresh(1)], "here")
    before = [v.tolist() for v in store.expand([a])]
    store.fresh(100_000)
    assert [v.tolist() for v in store.expand([a])] == before
    assert store.pin_reason(3) == "there"


@pytest.mark.parametrize("count", [4095, 4096, 5000, 9000])
def test_every_id_is_of_use_however_many_there_are(count: int) -> None:
    store = LabelStore()
    last = store.fresh(count)[-4:]
    store.pin(last[:1], "there")
    store.define(last[1:2], [last[2:3], last[3:]], "here")
    assert store.is_pinned(last).tolist() == [True, False, False, False]
    assert len(store.expand([last[1:2]])) == 2


def test_what_is_constant_has_its_own_reason() -> None:
    store = store_of()
    store.pin(np.array([3]), "there")
    assert store.pin_reason(0) == "constant"


@given(PAIRS)
def test_the_root_of_a_class_is_its_smallest_id(pairs: list[tuple[int, int]]) -> None:
    store = store_of()
    for a, b in pairs:
        store.union(np.array([a]), np.array([b]), None)
    assert store.find(np.arange(21)).tolist() == connected(pairs)


@given(PAIRS)
def test_a_union_of_vectors_is_the_union_of_their_elements(pairs: list[tuple[int, int]]) -> None:
    store = store_of()
    a, b = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    store.union(a, b, None)
    assert store.find(np.arange(21)).tolist() == connected(pairs)


@given(PAIRS, st.lists(st.integers(1, 20), min_size=1))
def test_a_pin_holds_for_the_whole_class_before_and_after_unions(
    pairs: list[tuple[int, int]], pins: list[int]
) -> None:
    early, late = store_of(), store_of()
    early.pin(np.array(pins), "why")
    for store in (early, late):
        for a, b in pairs:
            store.union(np.array([a]), np.array([b]), None)
    late.pin(np.array(pins), "why")
    ids, smallest = np.arange(1, 21), connected(pairs)
    expected = [smallest[i] in {smallest[p] for p in pins} for i in ids]
    assert early.is_pinned(ids).tolist() == late.is_pinned(ids).tolist() == expected
    assert {early.pin_reason(int(i)) for i in ids[np.array(expected)]} == {"why"}
    assert {early.pin_reason(int(i)) for i in ids[~np.array(expected)]} <= {None}


def test_an_id_that_meets_zero_is_pinned_for_the_reason_of_the_union() -> None:
    store = store_of()
    store.union(np.array([1, 0, 3]), np.array([0, 2, 4]), "an addition")
    assert store.is_pinned(np.array([1, 2, 3, 4])).tolist() == [True, True, False, False]
    assert store.pin_reason(1) == store.pin_reason(2) == "an addition"


def test_a_pin_keeps_its_first_reason_through_a_union() -> None:
    store = store_of()
    store.pin(np.array([7]), "the output")
    store.union(np.array([3]), np.array([7]), "an addition")
    assert store.pin_reason(3) == "the output"


def test_a_composite_means_any_of_its_alternatives() -> None:
    store = store_of(2)
    parts = [store.fresh(2) for _ in range(3)]
    store.define(np.array([1, 2]), parts, None)
    assert [v.tolist() for v in store.expand([np.array([1, 2, 1])])] == [
        [3, 4, 3],
        [5, 6, 5],
        [7, 8, 7],
    ]


def test_alternatives_may_be_missing_at_some_positions() -> None:
    store = store_of(3)
    first, second = store.fresh(3), store.fresh(3)
    first[1] = first[2] = second[2] = 0
    store.define(np.array([1, 2, 3]), [first, second], "nothing left")
    vectors = [v.tolist() for v in store.expand([np.array([1, 2, 3])])]
    # Id 1 is a composite, id 2 is united with its only alternative, id 3 has none.
    assert vectors == [[4, 2, 0], [7, 0, 0]]
    assert store.pin_reason(3) == "nothing left"


def test_pinning_a_composite_pins_its_parts() -> None:
    store = store_of(4)
    store.refine(np.array([1, 2, 3, 4]), 2, None)
    store.pin(np.array([1]), "why")
    assert [v.tolist() for v in store.expand([np.arange(1, 5)])] == [
        [0, 0, 6, 6],
        [0, 8, 0, 8],
    ]


def test_a_refinement_is_written_down() -> None:
    store = store_of(6)
    store.refine(np.arange(1, 7), 3, "a view", prefer_rows=True)
    (refinement,) = store.refinements
    assert refinement.rows.tolist() == [7, 8]
    assert refinement.columns.tolist() == [9, 10, 11]
    assert refinement.place == "a view"
    assert refinement.prefer_rows


def test_expanding_drops_duplicates_and_pinned_vectors() -> None:
    store = store_of(4)
    store.union(np.array([1]), np.array([2]), None)
    store.pin(np.array([3]), "why")
    given_vectors = [np.array([1, 1]), np.array([2, 1]), np.array([3, 3]), np.array([3, 4])]
    assert [v.tolist() for v in store.expand(given_vectors)] == [[1, 1], [0, 4]]
    kept = [v.tolist() for v in store.expand(given_vectors, keep_pinned=True)]
    assert kept == [[1, 1], [3, 3], [3, 4]]


def test_the_marked_ids_are_those_that_expanding_finds() -> None:
    store = store_of(12)
    one, two, three = (np.array([i, i + 1]) for i in (1, 3, 5))
    store.define(np.array([7, 8]), [one, two, three], "why")
    store.union(three, np.array([9, 10]), "same")
    store.pin(np.array([2, 11]), "pinned")
    vectors = [np.array([7, 8, 0]), np.array([9, 11, 12])]
    for keep_pinned in (False, True):
        found = np.unique(np.concatenate(store.expand(vectors, keep_pinned=keep_pinned)))
        marked = store.marked(vectors, keep_pinned=keep_pinned)
        assert np.flatnonzero(marked).tolist() == found[found != 0].tolist()
    assert not store.marked([]).any()


def test_a_copy_has_its_own_lists() -> None:
    store = store_of(4)
    twin = store.copy()
    twin.refine(np.arange(1, 5), 2, None)
    twin.pin(np.array([5]), "why")
    twin.batch_ids.append(np.array([1]))
    twin.copy_ids.append((np.array([1]), None))
    assert (store.refinements, store.batch_ids, store.copy_ids, len(store)) == ([], [], [], 5)
    assert "why" not in store.reasons
