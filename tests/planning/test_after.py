"""A plan that goes on from an earlier one includes it, and counts it towards what goes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune import DependencyGraph, InputError, Plan, PlanError
from tests.planning.models import analyzed_chain, zoo
from tests.planning.test_selection import chain_of

MODELS = ("vgg", "residual", "qkv_fused", "csp_split", "grouped_conv", "mixer", "glu", "unet")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "global": {"scope": "global"},
    "isomorphic": {"scope": "isomorphic"},
    "ranks": {"scope": "global", "normalize": "rank"},
    "largest": {"scope": "global", "normalize": "max"},
    "multiples": {"round_to": 4},
    "global multiples": {"round_to": 2, "scope": "global"},
    "uniform": {"uniform": True},
    "uniform multiples": {"uniform": True, "round_to": 2},
    "head dims": {"head_dims": True, "groups": True},
    "limits": {"min_channels": 3, "max_ratio": 0.7},
}


def removed(plan: Plan) -> set[tuple[str, int]]:
    return {(name, channel) for name, entry in plan.groups.items() for channel in entry.removed}


def widths(plan: Plan) -> dict[str, int]:
    return {name: entry.width for name, entry in plan.groups.items()}


def reweighted(deps: DependencyGraph, seed: int) -> Any:
    """A criterion that looks at other weights each time."""
    generator = torch.Generator().manual_seed(seed)
    return lambda _, weights: torch.rand(weights.shape, generator=generator)


def in_steps(deps: DependencyGraph, amounts: list[dict[str, Any]], **options: Any) -> list[Plan]:
    """Plans one after another, each by other scores."""
    plans: list[Plan] = []
    for seed, amount in enumerate(amounts):
        criterion = options.get("criterion") or reweighted(deps, seed)
        after = plans[-1] if plans else None
        kwargs = {**options, **amount, "criterion": criterion, "after": after}
        plans.append(fxprune.plan(deps, **kwargs))
    return plans


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("model", MODELS)
def test_each_plan_includes_the_one_before_by_ratios(model: str, options: dict[str, Any]) -> None:
    steps = [{"ratio": ratio} for ratio in (0.15, 0.3, 0.4, 0.6)]
    for before, later in pairwise(in_steps(zoo(model), steps, **options)):
        assert removed(before) <= removed(later)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("model", ["vgg", "residual", "qkv_fused", "csp_split"])
def test_each_plan_includes_the_one_before_under_targets(
    model: str, options: dict[str, Any]
) -> None:
    deps = zoo(model)
    steps = [{"target": {"params": share}} for share in (0.95, 0.85, 0.75)]
    plans = in_steps(deps, steps, **options)
    for before, later in pairwise(plans):
        assert removed(before) <= removed(later)
    for plan, step in zip(plans, steps, strict=True):
        assert plan.made["reached"]["params"] <= step["target"]["params"]


@pytest.mark.parametrize("options", ["plain", "multiples", "uniform multiples", "head dims"])
@pytest.mark.parametrize("model", MODELS)
def test_steps_end_in_the_widths_of_one_step(model: str, options: str) -> None:
    deps = zoo(model)
    steps = [{"ratio": ratio} for ratio in (0.1, 0.2, 0.4, 0.5)]
    last = in_steps(deps, steps, criterion="l2", **OPTIONS[options])[-1]
    assert widths(last) == widths(fxprune.plan(deps, ratio=0.5, **OPTIONS[options]))


@pytest.mark.parametrize("scope", ["group", "global", "isomorphic"])
def test_with_the_same_scores_steps_choose_what_one_step_does(scope: Any) -> None:
    deps = zoo("vgg")
    options: dict[str, Any] = {"criterion": "lamp", "scope": scope}  # needs no normalization
    last = in_steps(deps, [{"ratio": 0.2}, {"ratio": 0.5}], **options)[-1]
    assert last.groups == fxprune.plan(deps, ratio=0.5, **options).groups


def test_strategies_and_ratios_of_some_groups_go_on_too() -> None:
    deps = analyzed_chain(4, 16, 16, 16, 4)
    options: dict[str, Any] = {
        "ratios": {"0": 0.25},
        "strategies": {"1": {"ratio": 0.5, "criterion": "l1"}},
    }
    first = fxprune.plan(deps, ratio=0.125, **options)
    later = fxprune.plan(
        deps,
        ratio=0.25,
        ratios={"0": 0.5},
        strategies={"1": {"ratio": 0.75, "criterion": "random"}},
        after=first,
    )
    assert widths(first) == {"0": 12, "1": 8, "2": 14}
    assert widths(later) == {"0": 8, "1": 4, "2": 12}
    assert removed(first) <= removed(later)


def test_what_is_gone_counts_and_the_rest_goes_by_scores() -> None:
    deps = fxprune.analyze(chain_of([5, 6, 7, 8]), torch.zeros(1, 1))
    first = fxprune.plan(deps, channels={"0": [3]})
    later = fxprune.plan(deps, ratio=0.5, after=first)
    assert later.groups["0"].removed == (0, 3)
    assert later.made["after"] == 1


def test_what_is_gone_does_not_count_in_what_scores_are_divided_by() -> None:
    model = chain_of([1000, 1, 2, 3], [1, 1, 1.6, 5])
    options: dict[str, Any] = {"criterion": "l1", "reduction": "first", "scope": "global"}
    deps = fxprune.analyze(model, torch.zeros(1, 1))
    first = fxprune.plan(deps, channels={"0": [0]})
    later = fxprune.plan(deps, ratio=0.5, after=first, **options)
    # by means of 2 and 2.15: 0.5, 1, 1.5 and 0.47, 0.47, 0.74, 2.3
    assert removed(later) == {("0", 0), ("2", 0), ("2", 1), ("0", 1)}


def test_a_smaller_ratio_than_before_takes_nothing_more() -> None:
    deps = analyzed_chain(4, 16, 4)
    first = fxprune.plan(deps, ratio=0.5)
    assert fxprune.plan(deps, ratio=0.25, after=first).groups == first.groups
    assert fxprune.plan(deps, after=first).groups == first.groups


def test_a_target_that_is_met_already_takes_nothing_more() -> None:
    deps = analyzed_chain(4, 16, 16, 4)
    first = fxprune.plan(deps, ratio=0.5)
    later = fxprune.plan(deps, target={"params": 0.9}, after=first)
    assert later.groups == first.groups
    assert later.made["reached"]["params"] < 0.6


class Branched(nn.Module):
    """Two branches that are added up; the model is left without the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.other = nn.Linear(4, 16), nn.Linear(16, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.down(self.up(x).relu())
        return inner + self.other(x)


def test_groups_that_went_whole_stay_gone() -> None:
    deps = fxprune.analyze(Branched(), torch.zeros(1, 4))
    first = fxprune.plan(deps, channels={"up": list(range(16))})
    assert fxprune.plan(deps, ratio=0.5, after=first).groups["up"].width == 0
    assert fxprune.plan(deps, target={"params": 0.9}, after=first).groups["up"].width == 0


def test_groups_that_are_ignored_now_lose_nothing_more() -> None:
    deps = analyzed_chain(4, 16, 16, 4)
    first = fxprune.plan(deps, ratio=0.25)
    later = fxprune.plan(deps, ratio=0.5, ignore=["0"], after=first)
    assert widths(later) == {"0": 12, "1": 8}


def test_a_plan_for_another_model_is_refused() -> None:
    other = fxprune.plan(analyzed_chain(4, 12, 4), ratio=0.5)
    with pytest.raises(PlanError, match="the plan belongs to another model"):
        fxprune.plan(analyzed_chain(4, 16, 4), ratio=0.5, after=other)


def test_what_is_no_plan_is_refused() -> None:
    with pytest.raises(InputError, match="after is 'plan"):
        fxprune.plan(analyzed_chain(4, 16, 4), after="plan.json")  # type: ignore[arg-type]


def test_a_channel_that_is_gone_cannot_be_kept() -> None:
    deps = analyzed_chain(4, 16, 4)
    first = fxprune.plan(deps, channels={"0": [2, 5]})
    with pytest.raises(PlanError, match="channel 5 of 0 is gone by the earlier plan"):
        fxprune.plan(deps, keep={"0": [5]}, after=first)


def test_the_plan_can_be_shrunk_and_saved() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(2, 4)
    first = fxprune.plan(model, x, 0.25)
    later = fxprune.plan(model, x, 0.5, after=first)
    assert Plan.from_json(later.to_json()) == later
    small = fxprune.shrink(model, later)
    assert small.get_parameter("0.weight").shape == (8, 4)
