"""Digits: vectors that repeat and tile distinct ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxprune.labels.digits import cuts_form_chain, digit_of

SMALL = st.integers(1, 6)


@given(count=SMALL, inner=SMALL, outer=SMALL, first=st.integers(1, 100))
def test_a_tiled_repetition_of_distinct_ids_is_recognized(
    count: int, inner: int, outer: int, first: int
) -> None:
    ids = np.arange(first, first + count)[::-1]
    digit = digit_of(np.tile(np.repeat(ids, inner), outer))
    assert digit is not None
    assert digit.ids.tolist() == ids.tolist()
    # A single id has no place value: its repetitions and its tiles are the same thing.
    assert digit.inner == (inner if count > 1 else inner * outer)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_a_digit_rebuilds_the_vector_it_was_read_from(ids: list[int]) -> None:
    vector = np.array(ids)
    digit = digit_of(vector)
    if digit is not None:
        period = np.repeat(digit.ids, digit.inner)
        assert np.tile(period, len(vector) // len(period)).tolist() == ids
        assert len(set(digit.ids.tolist())) == len(digit.ids)


@pytest.mark.parametrize(
    "vector",
    [
        [1, 2, 0, 3],  # a pinned position
        [1, 2, 1, 3],  # one id at two places of a period
        [1, 1, 2],  # repeated unevenly
        [1, 2, 3, 1, 2],  # a part of a period
        [1, 1, 2, 2, 1, 1, 2, 3],
        [1, 2, 2, 1],
    ],
)
def test_other_vectors_are_no_digits(vector: list[int]) -> None:
    assert digit_of(np.array(vector)) is None


@given(st.lists(st.integers(1, 5), max_size=4))
def test_running_products_form_a_chain(factors: list[int]) -> None:
    assert cuts_form_chain(np.cumprod(factors).tolist())


def test_cuts_that_do_not_divide_one_another_form_no_chain() -> None:
    assert not cuts_form_chain([4, 6, 12])
