"""What printing a dependency graph, a report and a verification shows, and what it folds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.errors import Diagnostic, Location
from fxprune.remarks import told_once
from models_zoo import ZOO

WIDTH = 100


class Attention(nn.Module):
    """Some blocks of attention, whose parts q, k and v are single positions of an axis."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 16)
        self.blocks = nn.ModuleList(
            nn.MultiheadAttention(16, 4, batch_first=True) for _ in range(5)
        )
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x, x, x, need_weights=False)[0]
        out: Tensor = self.head(x)
        return out


@pytest.fixture(scope="module")
def attention() -> fxprune.DependencyGraph:
    return fxprune.analyze(Attention().eval(), torch.randn(2, 7, 6))


def row(text: str, start: str) -> list[str]:
    """The cells of the only row that starts so."""
    (found,) = (line for line in text.split("\n") if line.startswith(f" {start}"))
    return found.split()


def residual_stages() -> nn.Module:
    torchvision = pytest.importorskip("torchvision")
    model: nn.Module = torchvision.models.resnet50(weights=None).eval()
    return model


@pytest.fixture(scope="module")
def resnet() -> tuple[nn.Module, fxprune.DependencyGraph]:
    model = residual_stages()
    return model, fxprune.analyze(model, torch.randn(1, 3, 64, 64))


def test_groups_that_repeat_are_one_row(resnet: tuple[nn.Module, fxprune.DependencyGraph]) -> None:
    text = str(resnet[1])
    cells = row(text, "layer1.{0-2}.conv{1,2}")
    assert cells == ["layer1.{0-2}.conv{1,2}", "x6", "channels", "64", "3", "197,376"]
    assert row(text, "all") == ["all", "37", "11,456", "25,556,032"]
    assert "prunable share of the parameters: 100.0% (25,556,032 of 25,557,032)" in text


def test_each_text_of_a_resnet50_is_a_screen(
    resnet: tuple[nn.Module, fxprune.DependencyGraph],
) -> None:
    model, deps = resnet
    plan = fxprune.plan(deps, ratio=0.5)
    report = fxprune.shrink(model, plan, torch.randn(1, 3, 64, 64), verify="quick").meta["fxprune"]
    for told in (deps, plan, report):
        lines = str(told).split("\n")
        assert len(lines) <= 50
        assert max(map(len, lines)) <= WIDTH
        assert len(told.text(full=True).split("\n")) > 37


def test_what_must_stay_is_told_once_for_each_reason(attention: fxprune.DependencyGraph) -> None:
    pinned = [group for group in attention.groups if group.pinned is not None]
    assert len(pinned) > 15
    text = str(attention)
    assert text.count("a single position is selected") == 1
    cells = row(text, "a single position is selected")
    assert cells[5:] == ["15", "15", "blocks.{0-4}.in_proj_weight#{0-2}"]
    assert row(text, "output of the model")[4:] == ["1", "3", "head"]
    assert attention.text(full=True).count("a single position is selected") > 15


def test_single_channels_that_must_stay_make_no_remarks(attention: fxprune.DependencyGraph) -> None:
    assert any(d.what == "a single position is selected" for d in attention.diagnostics)
    remarks = [line for line in str(attention).split("\n") if line.startswith("- ")]
    assert not any("single position" in line for line in remarks)


def test_the_parameters_of_a_row_are_those_that_lie_at_its_channels() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    deps = fxprune.analyze(model, torch.randn(1, 5))
    cells = row(str(deps), "0         channels")
    assert cells == ["0", "channels", "8", "2", str(5 * 8 + 8 + 8 * 2)]


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_model_of_the_zoo_prints_each_of_its_groups(name: str) -> None:
    model = ZOO[name]
    deps = fxprune.analyze(model.build().eval(), model.example_inputs())
    text = str(deps)
    free = sum(group.prunable for group in deps.groups)
    assert text.startswith(f"{free} group")
    if free:
        size = sum(group.size for group in deps.groups if group.prunable)
        assert row(text, "all")[:3] == ["all", str(free), f"{size:,}"]
    assert all(line == line.rstrip() for line in text.split("\n"))
    plan = fxprune.plan(deps, ratio=0.5)
    assert str(plan).startswith("Plan: ")
    assert plan.text() == str(plan)


def test_the_same_said_of_several_places_is_one_sentence() -> None:
    def said(block: int, line: int) -> Diagnostic:
        place = Location(f"mean_{block}", f"blocks.{block}.norm", f"net.py:{line}", "aten.mean")
        return Diagnostic("statistics over the kept channels", place, "a hint")

    other = Diagnostic("something else", Location("node"))
    first, second = told_once([said(0, 7), other, said(1, 7), said(2, 9)])
    assert first == (
        "statistics over the kept channels [3 nodes, module blocks.{0-2}.norm, op aten.mean,"
        " net.py:7 and 1 more] (a hint)"
    )
    assert second == "something else [node node]"
    without = [Diagnostic("x", Location(node)) for node in ("add_1", "add_2")]
    assert list(told_once(without)) == ["x [node add_{1,2}]"]


def test_a_hint_that_differs_is_not_lost() -> None:
    found = [Diagnostic("x", hint=hint) for hint in ("one", "two")]
    assert list(told_once(found)) == ["x (one)", "x (two)"]
