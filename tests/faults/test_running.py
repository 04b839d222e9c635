"""What becomes of a fault: caught, refused, missed, or without effect."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import faults.__main__ as command
from faults.catalogue import FAULTS
from faults.fault import Fault, fault
from faults.injection import Edit
from faults.running import try_fault

_EVERY = 6
_SLICE = FAULTS[::_EVERY]

HARMLESS = fault(
    "flip is written in another way",
    "rules",
    Edit("rules.movement:flip", "slice(None, None, -1)", "slice(None, -9999, -1)"),
    "flip_roll",
)
# Nothing is wrong with keeping what could go, but no case of the catalogue may do it.
TIMID = fault(
    "half of what was chosen is kept after all",
    "plan layout",
    Edit(
        "planning.layout:Layout.__init__",
        "self._removed[deps.trace.labels.find(removed)] = True",
        "self._removed[deps.trace.labels.find(removed[::2])] = True",
    ),
    "flip_roll",
)


@pytest.mark.parametrize("given", _SLICE, ids=lambda given: given.name)
def test_a_fault_is_noticed_as_it_should_be(given: Fault) -> None:
    row = try_fault(given)
    assert row.outcome == given.expected
    assert row.where


def test_a_fault_that_changes_nothing_is_without_effect() -> None:
    assert try_fault(HARMLESS).outcome == "without effect"


def test_another_result_that_verifies_is_missed() -> None:
    assert try_fault(TIMID).outcome == "missed"


@pytest.mark.parametrize("given", [HARMLESS, TIMID], ids=["without effect", "missed"])
def test_the_command_fails_if_a_fault_is_not_caught(
    given: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "FAULTS", (FAULTS[0], given))
    done = CliRunner().invoke(command.main, ["--only", ""], catch_exceptions=False)
    assert done.exit_code == 1
    assert given.name in done.output
    assert "1 of 2 faults" in done.output


def test_the_command_succeeds_if_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "FAULTS", FAULTS[:1])
    done = CliRunner().invoke(command.main, ["--only", ""], catch_exceptions=False)
    assert done.exit_code == 0
