"""The scores of Torch-Pruning, where both define the same thing."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch_pruning")

from benchmarks.scores import ALL, COMPARISONS, EQUAL, TARGET, Case, Comparison, cases

pytestmark = pytest.mark.filterwarnings("ignore")  # of a package that is here to be compared with
IDS = [f"{each.name} {each.options} {each.expression}" for each in COMPARISONS]


@pytest.fixture(params=[*ALL[:2], pytest.param(ALL[2], marks=pytest.mark.slow)])
def case(request: pytest.FixtureRequest) -> Case:
    (found,) = (each for each in cases() if each.name == request.param)
    return found


@pytest.mark.parametrize("comparison", COMPARISONS, ids=IDS)
def test_scores_are_those_of_torch_pruning_but_where_the_table_says_why_not(
    comparison: Comparison, case: Case
) -> None:
    found = comparison.measured(case)
    if found is None:
        assert (comparison.name, case.name) == ("scale of batch norms", "flattened")
        return
    difference, _ = found
    assert not math.isnan(difference)
    if case.name in comparison.differs:
        assert comparison.why
        assert difference > 1e-3
    else:
        assert difference < EQUAL


def test_the_page_has_a_row_for_each_comparison() -> None:
    rows = [line for line in TARGET.read_text(encoding="utf-8").splitlines() if line[:1] == "|"][2:]
    assert len(rows) == len(COMPARISONS)
    for row, each in zip(rows, COMPARISONS, strict=True):
        assert row.startswith(f"| {each.name} | {each.options} | {each.expression} |")
        assert row.endswith(f"| {each.why} |")
        assert row.count("equal") == len(ALL) - len(each.differs) - row.count("no scores")
