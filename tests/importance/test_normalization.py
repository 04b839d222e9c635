"""Scores of groups, made comparable, against slow, obvious arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fxprune import InputError, importance
from fxprune.importance import Normalization, normalized
from tests.planning.models import analyzed_chain

DEPS = analyzed_chain(3, 5, 4, 2)
GROUPS = [group for group in DEPS.groups if group.prunable]
NAN = math.nan


def scores(*rows: list[float]) -> Any:
    """A score for each channel of the groups of 5 and 4; 7 for all other ids."""
    found = np.full(len(DEPS.trace.labels), 7.0)
    for group, row in zip(GROUPS, rows, strict=True):
        found[group.ids] = row
    return found


def rank(row: list[float], value: float) -> float:
    below = sum(other < value for other in row)
    equal = sum(other == value for other in row)
    return (below + (equal + 1) / 2) / len(row)


@pytest.mark.parametrize(
    ("how", "one"),
    [
        ("none", lambda row, value: value),
        ("mean", lambda row, value: value / (sum(abs(other) for other in row) / len(row))),
        ("max", lambda row, value: value / max(abs(other) for other in row)),
        ("rank", rank),
    ],
)
def test_each_group_is_normalized_by_itself(how: Normalization, one: Any) -> None:
    rows = [[3.0, 1.0, 3.0, 0.5, 9.0], [1e-9, 4e-9, 1e-9, 1e-9]]
    found = normalized(scores(*rows), GROUPS, how)
    for group, row in zip(GROUPS, rows, strict=True):
        expected = [one(row, value) for value in row]
        np.testing.assert_allclose(found[group.ids], expected, rtol=1e-12)


@pytest.mark.parametrize("how", ["mean", "max", "rank"])
def test_the_order_within_a_group_stays_be_scores_negative_or_huge(how: Normalization) -> None:
    rows = [[-3.0, 1.0, -0.5, 0.0, 1.5], [1e308, 1.5e308, 1.7e308, 1.2e308]]
    found = normalized(scores(*rows), GROUPS, how)
    assert np.isfinite(found).all()
    for group, row in zip(GROUPS, rows, strict=True):
        np.testing.assert_array_equal(np.argsort(found[group.ids]), np.argsort(row))


def test_a_group_of_zeros_stays_zero_and_shares_the_middle_rank() -> None:
    given = scores([0.0] * 5, [1.0, 2.0, 3.0, 4.0])
    for how in ("mean", "max"):
        assert (normalized(given, GROUPS, how)[GROUPS[0].ids] == 0).all()
    assert (normalized(given, GROUPS, "rank")[GROUPS[0].ids] == 3 / 5).all()


@pytest.mark.parametrize("how", importance.NORMALIZATIONS)
def test_what_nothing_speaks_of_stays_unknown_and_does_not_count(how: Normalization) -> None:
    found = normalized(scores([NAN, 2.0, NAN, 4.0, 6.0], [NAN] * 4), GROUPS, how)
    rows = {"none": [2, 4, 6], "mean": [0.5, 1, 1.5], "max": [1 / 3, 2 / 3, 1]}
    expected = rows.get(how, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found[GROUPS[0].ids], [NAN, expected[0], NAN, *expected[1:]])
    assert np.isnan(found[GROUPS[1].ids]).all()


def test_other_groups_and_the_given_scores_stay_as_they_are() -> None:
    given = scores([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0])
    before = given.copy()
    found = normalized(given, GROUPS[:1], "max")
    others = np.setdiff1d(np.arange(len(given)), GROUPS[0].ids)
    np.testing.assert_array_equal(found[others], before[others])
    np.testing.assert_array_equal(given, before)


def test_an_unknown_normalization_is_refused() -> None:
    with pytest.raises(InputError, match="unknown normalization 'sum'"):
        normalized(scores([1.0] * 5, [1.0] * 4), GROUPS, "sum")  # type: ignore[arg-type]
