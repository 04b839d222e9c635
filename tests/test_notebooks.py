"""What notebooks show of analyses, groups, plans, reports and verifications."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune.comparison import Verification
from fxprune.notebook_tables import MOST_FOLDED, MOST_ROWS, listed, long_table
from fxprune.planning import GroupPlan, Plan
from tests.drawing.models import IMAGE, Residual, analyzed, residual

EMPTY = {"img", "br", "hr"}


class Page(HTMLParser):
    """The rows and the text of a piece of HTML, in which every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def page(shown: Any) -> Page:
    """What a notebook shows of an object."""
    return Page(shown._repr_html_())


class Text:
    """Takes what IPython shows where it can show text only."""

    def __init__(self) -> None:
        self.said = ""

    def text(self, text: str) -> None:
        self.said += text


@pytest.fixture(scope="module")
def deps() -> fxprune.DependencyGraph:
    torch.manual_seed(0)
    return residual(6, 6, 4)


@pytest.fixture(scope="module")
def plan(deps: fxprune.DependencyGraph) -> Plan:
    return fxprune.plan(deps, IMAGE, ratio=0.5, ignore=["stem"])


@pytest.fixture(scope="module")
def report(deps: fxprune.DependencyGraph, plan: Plan) -> fxprune.ShrinkReport:
    found: fxprune.ShrinkReport = fxprune.shrink(deps, plan, IMAGE).meta["fxprune"]
    return found


def test_an_analysis_shows_its_groups_and_what_must_stay(deps: fxprune.DependencyGraph) -> None:
    shown = page(deps)
    free = [g for g in deps.groups if g.pinned is None]
    assert [[g.name, str(g.size), g.kind, str(len(g.members))] for g in free] == shown.rows[1:5]
    assert ["head", "5", "channels", "2", "output of the model"] in shown.rows
    assert f"{len(free)} groups of channels can be pruned" in shown.text
    assert str(deps.total_share) in shown.text


def test_an_analysis_has_a_picture_that_opens_with_a_click(
    deps: fxprune.DependencyGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.search(
        r"<details><summary>picture</summary><img [^>]*data:image/svg\+xml", deps._repr_html_()
    )
    for bound, most in (
        ("fxprune.notebook_groups._LARGEST_PICTURE", 100),
        ("fxprune.drawing.drawings._MOST_NODES", 3),
    ):
        with monkeypatch.context() as smaller:
            smaller.setattr(bound, most)
            assert "picture" not in page(deps).text
    assert "picture" in page(deps).text


def test_an_analysis_is_shown_where_nothing_lays_out_pictures(
    deps: fxprune.DependencyGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renderer(kind: str) -> str:
        raise fxprune.InputError(f"nothing lays out a {kind}")

    monkeypatch.setattr("fxprune.drawing.layouts.renderer", renderer)
    shown = page(deps)
    assert "img" not in shown.seen
    assert "picture" not in shown.text


def test_a_group_shows_its_members_and_why_it_must_stay(deps: fxprune.DependencyGraph) -> None:
    free = page(deps.group("blocks.0.conv1"))
    assert "blocks.0.conv1: 6 channels, can be pruned" in free.text
    assert ["blocks.0.conv2.weight", "1", "6", "6", "1"] in free.rows
    pinned = page(deps.group("head"))
    assert "must stay: output of the model [node output]" in pinned.text


def test_a_single_channel_is_none_of_those_that_can_be_pruned(
    deps: fxprune.DependencyGraph,
) -> None:
    group = deps.group("stem")
    single = replace(group, ids=group.ids[:1])
    assert "stem: a single channel, which always stays" in page(single).text
    shown = page(replace(deps, groups=(single,)))
    assert "0 groups of channels can be pruned, 1 must stay" in shown.text
    assert ["stem", "1", "channels", "12", "a single channel, which always stays"] in shown.rows


def test_a_group_that_lies_side_by_side_with_others_tells_its_positions() -> None:
    class Concat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 4), nn.Linear(3, 6)
            self.head = nn.Linear(20, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = self.left(x), self.right(x)
            return self.head(torch.cat([left, right, right, left], 1))

    group = analyzed(Concat(), torch.zeros(2, 3)).group("left")
    assert ["head.weight", "1", "20", "8", "2"] in page(group).rows


def test_a_plan_shows_widths_and_how_it_was_made(plan: Plan) -> None:
    shown = page(plan)
    assert ["blocks.0.conv1", "channels", "6", "3", " 50%"] in shown.rows
    assert ["stem", "channels", "8"] in shown.rows
    assert "groups that stay as they are (1)" in shown.text
    assert "ratio: 0.5" in shown.text


def test_a_plan_shows_what_it_drops() -> None:
    dropped = fxprune.plan(Residual(6, 6).eval(), IMAGE, drop=["blocks.0"])
    assert "dropped whole: blocks.0" in page(dropped).text


def test_a_report_shows_cost_widths_and_that_it_is_verified(report: fxprune.ShrinkReport) -> None:
    shown = page(report)
    before, after = report.before, report.after
    assert shown.rows[1][:3] == ["parameters", f"{before.parameters:,}", f"{after.parameters:,}"]
    assert shown.rows[3][:3] == ["MACs", f"{before.macs:,}", f"{after.macs:,}"]
    assert "verified: " in shown.text
    assert "NOT verified" not in shown.text
    assert ["blocks.0.conv1", "channels", "6", "3", " 50%"] in shown.rows


def test_a_report_without_a_proof_says_so(report: fxprune.ShrinkReport) -> None:
    assert "NOT verified" in page(replace(report, verification=None)).text


def test_a_verification_shows_what_was_compared(report: fxprune.ShrinkReport) -> None:
    proof = report.verification
    assert proof is not None
    shown = page(proof)
    rows = {row[0]: row[1] for row in shown.rows}
    assert rows["values compared"] == f"{proof.nodes} (every node)"
    assert rows["worst relative error"] == f"{proof.relative:.1e} at {proof.where}"
    assert rows["gradients"].startswith(f"{proof.gradients} parameters")
    skipped = Verification(skipped={"gradients": "too <large>"})
    assert "gradients: too <large>" in page(skipped).text


def test_names_are_text_and_no_markup() -> None:
    name = "<script>alert(1)</script>"
    model = nn.Sequential(OrderedDict([(name, nn.Linear(4, 6)), ("head", nn.Linear(6, 2))]))
    deps = analyzed(model, torch.zeros(2, 4))
    plan = fxprune.plan(deps, torch.zeros(2, 4), ratio=0.5)
    report = fxprune.shrink(deps, plan).meta["fxprune"]
    for each in (deps, deps.groups[0], plan, report, report.verification):
        html = each._repr_html_()
        assert "<script" not in html
        assert "script" not in Page(html).seen
    assert name in page(plan).text


def test_a_plan_of_anyone_can_be_shown() -> None:
    groups = {"\x1b[2J<b>": GroupPlan(0, "<i>", (3,)), "odd": GroupPlan(2, "heads", (0, 1, 2))}
    shown = page(Plan(groups, {}, {}, (), "", made={"<u>": ["<s>"] * 999, "kept": 5}))
    assert shown.seen.isdisjoint({"b", "i", "u", "s"})
    assert "\\x1b[2J<b>" in shown.text
    assert len(shown.text) < 1000


def test_a_long_table_shows_a_screen_of_rows_and_the_rest_with_a_click() -> None:
    rows = [[f"row {number}", number] for number in range(3 * MOST_ROWS)]
    html = long_table(["name", "number"], rows, "rows")
    first, _, rest = html.partition("<details>")
    assert len(Page(first).rows) == MOST_ROWS + 1
    assert len(Page(f"<details>{rest}").rows) == 2 * MOST_ROWS + 1
    assert f"{2 * MOST_ROWS} more rows" in Page(html).text


def test_a_long_list_tells_how_much_is_left_out() -> None:
    html = listed([f"<{number}>" for number in range(MOST_FOLDED + 7)])
    assert html.count("<li>") == MOST_FOLDED + 1
    assert "<li>and 7 more</li>" in html
    assert not listed([])


def test_a_notebook_inherits_colours_and_gets_no_style_sheet(
    deps: fxprune.DependencyGraph, plan: Plan, report: fxprune.ShrinkReport
) -> None:
    for each in (deps, deps.groups[0], plan, report, report.verification):
        html = each._repr_html_()
        assert not {"style", "script", "link"} & Page(html).seen
        named = re.findall(r"(?:color|background|border): ([^;\"]+)", html)
        assert all(value.endswith("currentColor") for value in named)


def test_where_only_text_is_shown_it_is_what_print_shows(
    deps: fxprune.DependencyGraph, plan: Plan, report: fxprune.ShrinkReport
) -> None:
    for each in (deps, deps.groups[0], deps.why("stem"), plan, report, report.verification):
        printer = Text()
        assert each is not None
        each._repr_pretty_(printer, cycle=False)
        assert printer.said == str(each)
