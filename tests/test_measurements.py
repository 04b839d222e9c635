"""A difference is called one only if nine of ten rounds agree on it; files of measurements."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fxprune import InputError
from fxprune.measurements import Comparison, Measurement, Relation, Spread


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


MEASURED = Comparison(
    measurements=(
        Measurement("dense", "eager", Spread(4.0, 3.5, 5.25), None, 300, 3),
        Measurement(
            *("half", "eager", Spread(2.0, 1.5, 2.5)),
            Relation("dense", Spread(0.5, 0.25, 0.75), "faster"),
            *(200, 1),
        ),
        Measurement("half", "compile", failure="it cannot be compiled"),
    ),
    threads=2,
    rounds=30,
    memory_limit=None,
)


def test_a_comparison_can_be_read_again(tmp_path: Path) -> None:
    assert Comparison.from_json(MEASURED.to_json()) == MEASURED
    limited = replace(MEASURED, memory_limit=1 << 30)
    (tmp_path / "bench.json").write_text(limited.to_json())
    assert Comparison.load(tmp_path / "bench.json") == limited


def _changed(*path: str | int, value: object) -> str:
    """The text of a comparison in which something else is at a place."""
    document: Any = MEASURED.to_document()
    at = json.loads(json.dumps(document))
    document = at
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not valid JSON"),
        ("{}", 'no "format": "fxprune bench"'),
        (_changed("version", value=2), "bench version 2 is not 1"),
        (_changed("measurements", value={}), "is not a list"),
        (_changed("measurements", 0, "milliseconds", value=3), "is not an object"),
        (_changed("measurements", 0, "milliseconds", "low", value=9), "between two percentiles"),
        (_changed("measurements", 0, "milliseconds", "low", value=-1), "between two percentiles"),
        (_changed("measurements", 1, "relation", "verdict", value="best"), "is not a verdict"),
        (_changed("measurements", 1, "relation", "verdict", value=[]), "is not a verdict"),
        (_changed("measurements", 0, "name", value=None), "is not a string"),
        (_changed("measurements", 0, "extra", value=1), "'extra' is not known"),
        (_changed("threads", value="many"), "is not an integer"),
    ],
)
def test_what_is_no_comparison_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Comparison.from_json(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json cannot be read") as caught:
        Comparison.load(tmp_path / "absent.json")
    assert "fxprune bench --json" in caught.value.hint
