"""The catalogue is large enough, and the committed table is that of the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.catalogue import FAULTS
from faults.fault import Fault
from faults.rendering import BEGIN, END, case, render, replaced
from faults.running import Row
from models_zoo import ZOO

DOCUMENT = (Path(__file__).parents[2] / "docs" / "correctness.md").read_text(encoding="utf-8")
AREAS = {"labels", "rules", "plan layout", "slicing", "attributes", "shape repair", "lowering"}


def committed() -> list[list[str]]:
    """The cells of all lines of both tables."""
    text = DOCUMENT.partition(BEGIN)[2].partition(END)[0]
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("| ")]
    return [line.split(" | ") for line in lines if not line.startswith(("area", "---"))]


def test_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_there_are_many_faults_that_verify_has_to_catch_in_every_area() -> None:
    caught = [fault for fault in FAULTS if fault.expected == "caught"]
    assert len(caught) >= 60
    assert {fault.area for fault in caught} == AREAS | {"modules", "branches"}


def test_every_fault_shows_on_a_model_of_the_zoo() -> None:
    assert {fault.case.model for fault in FAULTS} <= ZOO.keys()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_can_be_put_into_the_code_as_it_is(fault: Fault) -> None:
    with fault.injection.applied():
        pass


def test_the_committed_table_lists_exactly_these_faults() -> None:
    listed = {(area, name, shown) for area, name, shown, _ in committed()}
    assert listed == {(fault.area, fault.name, case(fault.case)) for fault in FAULTS}


def test_the_committed_table_says_that_all_are_noticed() -> None:
    caught = sum(fault.expected == "caught" for fault in FAULTS)
    assert f"**{caught} of {caught} named faults are caught by `verify`.**" in DOCUMENT
    assert all(cells[-1].startswith("`") for cells in committed())


def test_a_fault_that_is_not_caught_stands_out() -> None:
    text = render([Row(FAULTS[0], "missed"), Row(FAULTS[1], "caught", "node x", "x differs")])
    assert "**1 of 2 named faults" in text
    assert "| **missed** |" in text


def test_only_what_is_between_the_markers_is_replaced() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(document, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    with pytest.raises(ValueError, match="lacks"):
        replaced("no markers", "new")
