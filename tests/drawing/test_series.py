"""The numbers that the slider of a page shows are those of the real plans."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fxprune
from fxprune.drawing import picture_of
from fxprune.drawing.building import Builder
from fxprune.drawing.folding import folded
from fxprune.drawing.series import RATIOS, Series, series_of
from models_zoo import ZOO, randomize
from tests.drawing.models import IMAGE, WORDS, Attention, Residual, analyzed, residual

SOME = ("attention_heads", "channel_shuffle", "chunk", "dense_concat", "qkv_fused", "recurrent")
NAMES = [name for name in ZOO if name.startswith(SOME)]


def series(deps: fxprune.DependencyGraph, plan: fxprune.Plan | None = None) -> Series:
    return series_of(Builder(deps, plan, "module"))


def check(deps: fxprune.DependencyGraph, criterion: str = "l2") -> None:
    """Every ratio against the picture of the plan that `fxprune.plan` makes of it."""
    found = series(deps)
    for place, ratio in enumerate(RATIOS):
        plan = fxprune.plan(deps, ratio=ratio, criterion=criterion)
        picture = picture_of(deps, plan)
        for node in picture.nodes:
            weight = found.weights[node.name]
            told = (weight.parameters[place], weight.macs[place], weight.goes[place])
            assert told == (node.parameters_after, node.macs_after, node.goes)
        for edge in picture.edges:
            flows = found.flows[edge.source, edge.target]
            shapes = {tuple(sizes[place] for sizes in flow.sizes) for flow in flows}
            assert shapes == {value.after for value in edge.values}
        assert {name: plan.groups[name].width for name in plan.groups}.items() <= {
            name: widths[place] for name, widths in found.groups.items()
        }.items()
        assert tuple(total[place] for total in found.totals) == (
            picture.parameters[1],
            picture.macs[1],
        )


@pytest.mark.parametrize("name", NAMES)
def test_every_ratio_shows_what_its_plan_removes(name: str) -> None:
    entry = ZOO[name]
    check(fxprune.analyze(randomize(entry.build()).eval(), entry.example_inputs()))


def test_every_ratio_shows_what_its_plan_removes_of_attention() -> None:
    check(analyzed(Attention(), WORDS))


def test_the_totals_are_those_of_the_shrunk_model() -> None:
    model = Residual(6, 6).eval()
    parameters, macs = series(fxprune.analyze(model, IMAGE)).totals
    for place in (0, 5, 12):
        plan = fxprune.plan(model, IMAGE, ratio=RATIOS[place])
        after = fxprune.shrink(model, plan, verify=False).meta["fxprune"].after
        assert (after.parameters, after.macs) == (parameters[place], macs[place])


def test_a_plan_comes_last() -> None:
    deps = residual(6, 6)
    plan = fxprune.plan(deps, channels={"blocks.0.conv1": [0, 1, 2, 3, 4, 5]})
    found = series(deps, plan)
    assert found.planned
    assert len(found.groups["blocks.0.conv1"]) == len(RATIOS) + 1
    assert found.groups["blocks.0.conv1"][-1] == 0
    assert found.weights["blocks_0_conv1"].goes == (*(False for _ in RATIOS), True)


def test_blocks_that_a_plan_drops_stay_dropped_at_every_ratio() -> None:
    model = Residual(6, 6).eval()
    plan = fxprune.plan(model, IMAGE, drop=["blocks.0"])
    deps = plan.analyze(model, IMAGE)
    found = series(deps, plan)
    other = fxprune.plan(model, IMAGE, drop=["blocks.0"], ratio=0.5)
    place = RATIOS.index(0.5)
    assert {n: g.width for n, g in other.groups.items()}.items() <= {
        name: widths[place] for name, widths in found.groups.items()
    }.items()


def test_without_data_channels_are_taken_at_random() -> None:
    with torch.device("meta"):
        model = Residual(6, 4).eval()
    deps = fxprune.analyze(model, IMAGE.to("meta"))
    assert series(deps).criterion == "random"
    check(deps, "random")


def test_weights_that_cannot_be_ranked_leave_the_model_as_it_is_and_a_reason() -> None:
    model = Residual(6)
    with torch.no_grad():
        model.stem.weight[0] = torch.nan
    found = series(analyzed(model))
    assert found.ratios == (0.0,)
    assert "stem.weight contains NaN" in found.why_not
    assert found.groups["stem"] == (8,)


class Halves(nn.Module):
    """A group that lies on both halves of a chunk: what goes of each depends on the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.left = nn.Linear(4, 2)
        self.right = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.first(x).chunk(2, 1)
        return self.left(left) + self.right(right)


def test_every_ratio_shows_what_its_plan_removes_of_the_halves_of_a_group() -> None:
    check(analyzed(Halves(), torch.zeros(2, 3)))


def test_a_difference_at_one_ratio_is_enough_to_draw_blocks_apart() -> None:
    picture = picture_of(residual(6, 6, 6))
    same = {node.name: (1, 2) for node in picture.nodes}
    assert list(folded(picture, same).folds.values()) == [("blocks.0", "blocks.1", "blocks.2")]
    assert folded(picture, {**same, "blocks_1_conv2": (1, 3)}).folds == {}
