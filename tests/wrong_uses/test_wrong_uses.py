"""Every wrong use gives exactly its error, and changes nothing."""

from pathlib import Path

import pytest
import torch

import fxprune
from tests.wrong_uses import golden, nets, right
from tests.wrong_uses.table import Wrong, error_of, nothing_changes, prepared


@pytest.mark.parametrize("name", golden.ROWS)
def test_a_wrong_use_gives_its_error_and_changes_nothing(name: str, tmp_path: Path) -> None:
    assert error_of(golden.ROWS[name], tmp_path) == golden.accepted()[name]


def test_every_error_in_the_table_belongs_to_a_wrong_use() -> None:
    assert list(golden.accepted()) == list(golden.ROWS)
    assert golden.names_are_unique()


def test_the_page_tells_the_same_errors() -> None:
    page = golden.PAGE.read_text(encoding="utf-8")
    assert golden.as_page(golden.accepted()) == page


def test_the_table_is_long() -> None:
    assert len(golden.ROWS) >= 60


@pytest.mark.parametrize("row", right.ROWS, ids=lambda row: row.name)
def test_a_use_that_only_looks_wrong_works_and_changes_nothing(row: Wrong, tmp_path: Path) -> None:
    world = prepared(row, tmp_path)
    with nothing_changes(world):
        report = row.act(world).meta["fxprune"]
    assert report.verification


def test_a_buffer_that_counts_goes_on_counting_in_the_result() -> None:
    for kind in (nets.Counts, nets.Assigns):
        model, x = kind(), nets.rows()
        small = fxprune.shrink(model, {"first": 0.5}, x)
        outputs = [small(x) for _ in range(3)]
        torch.testing.assert_close(outputs[2], 3 * outputs[0])
        assert (model.steps.item(), small.get_buffer("steps").item()) == (0, 3)


def test_a_forward_that_goes_by_a_number_that_it_changes_is_told() -> None:
    model, x = nets.CountsInPython(), nets.rows()
    what = "forward changes calls and goes by it"
    graph = fxprune.shrink(model, {"first": 0.5}, x)
    assert any(d.what.startswith(what) for d in graph.meta["fxprune"].diagnostics)
    module = fxprune.shrink(model, {"first": 0.5}, x, emit="module")
    assert not module.meta["fxprune"].diagnostics
    assert (model.calls, module.calls) == (0, 0)
    torch.testing.assert_close([module(x) for _ in range(3)][2], 3 * graph(x))


def test_a_name_in_a_plan_does_not_steer_the_terminal() -> None:
    with pytest.raises(fxprune.PlanError) as caught:
        fxprune.analyze(nets.chain(), nets.rows()).group("\x1b[2Jclear")
    assert "\x1b" not in str(caught.value) + caught.value.what
