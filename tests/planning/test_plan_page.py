"""What printing a plan shows: widths before and after, repeats folded."""

from __future__ import annotations

import pytest

import fxprune
from fxprune.planning import GroupPlan


def plan(widths: dict[str, tuple[int, int]], **made: object) -> fxprune.Plan:
    groups = {
        name: GroupPlan(size, "channels", tuple(range(size - width)))
        for name, (size, width) in widths.items()
    }
    return fxprune.Plan(groups, {}, {}, (), "", made)


def rows(text: str) -> list[str]:
    """The lines of the table, with one space between cells."""
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return lines[lines.index("") + 3 :]


BLOCKS = plan({"stem": (8, 6), "blocks.0.up": (16, 4), "blocks.1.up": (16, 4), "out.0": (5, 5)})


def test_groups_of_which_as_much_goes_are_one_row() -> None:
    assert rows(str(BLOCKS))[:3] == [
        "stem channels 8 -> 6 75.0%",
        "blocks.{0,1}.up x2 channels 16 -> 4 25.0%",
        "out.0 channels 5 100.0%",
    ]


def test_the_total_is_that_of_all_groups() -> None:
    assert rows(str(BLOCKS))[-1] == "all 4 45 -> 19 42.2%"
    assert str(BLOCKS).startswith("Plan: 45 -> 19 channels in 4 groups\n")


def test_in_full_every_group_has_a_row() -> None:
    names = [line.split()[0] for line in rows(BLOCKS.text(full=True))[:-2]]
    assert names == list(BLOCKS.groups)


def test_groups_of_which_other_shares_go_are_told_apart() -> None:
    found = rows(str(plan({"a.0": (8, 4), "a.1": (8, 4), "a.2": (8, 3)})))
    assert [line.split()[0] for line in found[:2]] == ["a.{0,1}", "a.2"]


def test_a_plan_tells_how_it_was_made() -> None:
    made = {"criterion": "l1", "target": {"macs": 0.5}, "reached": {"macs": 0.498}, "ratio": None}
    assert str(plan({}, **made)).split("\n") == [
        "Plan: 0 -> 0 channels in 0 groups",
        "made with target macs=0.5, reached macs=0.498, criterion l1",
    ]


@pytest.mark.parametrize("made", [{}, {"ratio": [[{}]]}, {"ratios": 7}, {"kept": [1], "by": {}}])
def test_whatever_a_file_says_of_its_making_can_be_printed(made: dict[str, object]) -> None:
    assert str(plan({"a": (2, 1)}, **made)).startswith("Plan: 2 -> 1 channels")


@pytest.mark.parametrize("full", [False, True])
def test_a_plan_of_anyone_prints_without_steering_the_terminal(full: bool) -> None:
    groups = {f"a\x1b[2J{k}": GroupPlan(4, "channels\r", (1,)) for k in range(3)}
    made = {"criterion": "l2\x1b[2J", "ratio": "\x1b[2J", "kept": {"a\x1b": "b\x1b"}}
    plan = fxprune.Plan(groups, {}, {}, (), "", made, dropped=("\x1b[2J",))
    text = plan.text(full=full)
    assert "\x1b" not in text
    assert "\r" not in text
    assert len([line for line in text.split("\n") if "75.0%" in line]) == (4 if full else 2)
