"""A difference is called one only if nine of ten rounds agree on it."""

import pytest

from fxprune.measurements import Relation, Spread


def test_a_spread_is_the_median_and_the_outer_tenths() -> None:
    spread = Spread.of([float(i) for i in range(11)])
    assert spread == Spread(5.0, 1.0, 9.0)
    assert str(spread) == "5 (1 to 9)"


def test_times_are_compared_round_by_round() -> None:
    drifting = [1.0, 2.0, 4.0, 8.0]
    relation = Relation.of("dense", [0.5 * time for time in drifting], drifting)
    assert relation == Relation("dense", Spread(0.5, 0.5, 0.5), "faster")
    assert str(relation) == "0.50x (0.50x to 0.50x)"


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([0.8, 0.9, 0.95, 0.99], "faster"),
        ([1.01, 1.1, 1.2, 2.0], "slower"),
        ([0.5, 0.6, 0.7, 1.4], "no difference"),
        ([0.9, 0.95] + [1.5] * 8, "no difference"),
        ([1.0, 1.0, 1.0, 1.0], "no difference"),
    ],
)
def test_a_spread_that_covers_one_is_no_difference(ratios: list[float], verdict: str) -> None:
    relation = Relation.of("dense", ratios, [1.0] * len(ratios))
    assert relation.verdict == verdict
    assert str(relation).startswith("no difference") == (verdict == "no difference")


def test_one_slow_round_in_twenty_changes_no_verdict() -> None:
    own = [0.5] * 19 + [50.0]
    assert Relation.of("dense", own, [1.0] * 20).verdict == "faster"
