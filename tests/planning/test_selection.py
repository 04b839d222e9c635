"""Which channels are ranked together, and what widths they may have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import InputError, Plan, PlanError, Strategy
from fxprune.importance import L1
from tests.planning.models import analyzed_chain, zoo
from tests.torchvision_models import models, small_vision_transformer

X = torch.zeros(1, 3)


def widths(plan: Plan) -> dict[str, int]:
    return {name: group.width for name, group in plan.groups.items()}


def chain_of(*weights: list[float]) -> nn.Sequential:
    """Linear layers with rows of these sizes; each channel's l1 score is its row and column."""
    layers: list[nn.Module] = []
    size = 1
    for rows in weights:
        layer = nn.Linear(size, len(rows), bias=False)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[:, 0] = torch.tensor(rows)
        layers += [layer, nn.ReLU()]
        size = len(rows)
    last = nn.Linear(size, 1, bias=False)
    nn.init.zeros_(last.weight)
    return nn.Sequential(*layers, last)


def by_rows(model: nn.Module, **options: Any) -> Plan:
    """A plan by the rows alone that make a channel."""
    return fxprune.plan(model, torch.zeros(1, 1), criterion="l1", reduction="first", **options)


# -- global ---------------------------------------------------------------------------------


def test_a_global_ratio_takes_the_lowest_of_all_groups() -> None:
    model = chain_of([1, 2, 3, 4], [10, 20, 30, 0.5])
    plan = by_rows(model, ratio=0.5, scope="global", normalize="none")
    assert plan.groups["0"].removed == (0, 1, 2)  # one stays
    assert plan.groups["2"].removed == (3,)


def test_normalized_scores_compare_across_groups() -> None:
    model = chain_of([1, 1, 1, 5], [10, 10, 10, 50])
    removed = by_rows(model, ratio=0.75, scope="global").groups
    assert removed["0"].removed == removed["2"].removed == (0, 1, 2)
    assert (
        by_rows(model, ratio=0.75, scope="global").groups
        == by_rows(model, ratio=0.75, scope="global", normalize="mean").groups
    )


def test_ranks_take_the_same_share_of_every_group() -> None:
    model = chain_of([1, 2, 3, 4], [10, 20, 30, 40, 50, 60, 70, 80])
    plan = by_rows(model, ratio=0.5, scope="global", normalize="rank")
    assert widths(plan) == {"0": 2, "2": 4}


def test_a_criterion_whose_scores_compare_is_not_normalized() -> None:
    model = chain_of([1, 1, 1, 1], [9, 9, 9, 9])
    options: dict[str, Any] = {"ratio": 0.375, "scope": "global"}
    lamp = [
        fxprune.plan(model, torch.zeros(1, 1), criterion="lamp", normalize=how, **options).groups
        for how in (None, "none")
    ]
    assert lamp[0] == lamp[1]


def test_a_global_ratio_is_the_share_of_all_channels() -> None:
    deps = fxprune.analyze(models.resnet18(weights=None).eval(), torch.zeros(1, 3, 64, 64))
    plan = fxprune.plan(deps, ratio=0.5, scope="global")
    size = sum(group.size for group in plan.groups.values())
    assert sum(widths(plan).values()) == size - size // 2
    assert min(widths(plan).values()) >= 1
    assert len({group.width / group.size for group in plan.groups.values()}) > 3


def test_groups_with_a_ratio_of_their_own_are_ranked_apart() -> None:
    model = chain_of([1, 2, 3, 4], [10, 20, 30, 40], [5, 6, 7, 8])
    plan = by_rows(model, ratio=0.25, scope="global", normalize="none", ratios={"2": 0.5})
    assert widths(plan) == {"0": 2, "2": 2, "4": 4}


def test_what_a_larger_ratio_takes_includes_what_a_smaller_one_takes() -> None:
    deps = fxprune.analyze(models.resnet18(weights=None).eval(), torch.zeros(1, 3, 64, 64))
    for options in ({"scope": "global"}, {"scope": "group"}, {"scope": "isomorphic"}):
        before: set[tuple[str, int]] = set()
        for ratio in (0.1, 0.4, 0.7, 0.9):
            plan = fxprune.plan(deps, ratio=ratio, round_to=4, **options)  # type: ignore[arg-type]
            gone = {(name, c) for name, g in plan.groups.items() for c in g.removed}
            assert before <= gone
            before = gone


# -- isomorphic -----------------------------------------------------------------------------


class Blocks(nn.Module):
    """Two blocks of convolutions, and two of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.images = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3)))
        self.vectors = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.vectors(self.images(x).mean((2, 3)))
        return out


def test_groups_of_the_same_layers_are_ranked_together_and_others_apart() -> None:
    model = Blocks()
    with torch.no_grad():
        for number, layer in enumerate([*model.images, *model.vectors]):
            layer.weight.fill_(1.0 + number)  # type: ignore[operator, union-attr]
    options: dict[str, Any] = {"criterion": "l1", "reduction": "first", "normalize": "none"}
    example = torch.zeros(1, 4, 5, 5)
    exported = torch.export.export(model.eval(), (example,))
    plan, same = (
        fxprune.plan(source, example, 0.375, scope="isomorphic", **options)
        for source in (model, exported)
    )
    assert widths(same) == widths(plan)  # though it has no classes of modules
    # images.0 and images.1 are convolution to convolution; vectors.0, vectors.1 linear to linear;
    # images.2 is convolution to linear
    assert widths(plan) == {
        "images.0": 1,
        "images.1": 4,
        "images.2": 3,
        "vectors.0": 1,
        "vectors.1": 4,
    }


# -- thresholds -----------------------------------------------------------------------------


def test_channels_that_score_below_a_threshold_go() -> None:
    model = chain_of([1, 2, 3, 4], [0.5, 20, 30, 2])
    plan = by_rows(model, threshold=2.5)
    assert plan.groups["0"].removed == (0, 1)
    assert plan.groups["2"].removed == (0, 3)
    assert plan.made["threshold"] == 2.5


def test_a_score_at_the_threshold_stays() -> None:
    assert by_rows(chain_of([1, 2, 3, 4]), threshold=2.0).groups["0"].removed == (0,)


def test_one_channel_stays_though_all_score_below_the_threshold() -> None:
    assert by_rows(chain_of([1, 2, 3, 4]), threshold=100.0).groups["0"].removed == (0, 1, 2)


def test_a_threshold_compares_normalized_scores_if_that_is_asked() -> None:
    model = chain_of([1, 1, 1, 5], [10, 10, 10, 50])
    plan = by_rows(model, threshold=0.6, normalize="mean")
    assert widths(plan) == {"0": 1, "2": 1}


def test_a_threshold_takes_whole_multiples_only() -> None:
    plan = by_rows(chain_of([1, 2, 3, 4, 5, 6]), threshold=3.5, round_to=2)
    assert plan.groups["0"].removed == (0, 1)


def test_both_a_ratio_and_a_threshold_are_refused() -> None:
    with pytest.raises(InputError, match=r"both ratio=0.5 and threshold=1.0"):
        fxprune.plan(analyzed_chain(3, 8, 2), ratio=0.5, threshold=1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.1", True])
def test_a_threshold_that_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="threshold is"):
        fxprune.plan(analyzed_chain(3, 8, 2), threshold=value)


# -- strategies -----------------------------------------------------------------------------


def test_a_strategy_changes_for_some_groups_what_it_names() -> None:
    model = chain_of([4, 3, 2, 1], [40, 30, 20, 10], [1, 2, 3, 4])
    plan = by_rows(
        model,
        ratio=0.25,
        strategies={"2": {"ratio": 0.5}, "4": Strategy(criterion=lambda name, weights: -weights)},
    )
    assert plan.groups["0"].removed == (3,)
    assert plan.groups["2"].removed == (2, 3)
    assert plan.groups["4"].removed == (3,)  # by its own criterion the largest goes


def test_later_strategies_win_over_earlier_ones_and_over_ratios() -> None:
    deps = analyzed_chain(3, 8, 8, 8, 2)
    plan = fxprune.plan(
        deps,
        ratio=0.25,
        ratios={"1": 0.75},
        strategies={"*": {"ratio": 0.5}, "2": {"threshold": 1e9, "min_channels": 3}},
    )
    assert widths(plan) == {"0": 4, "1": 4, "2": 3}


def test_a_ratio_for_some_groups_replaces_the_threshold_of_all() -> None:
    model = chain_of([1, 2, 3, 4], [1, 2, 3, 4])
    plan = by_rows(model, threshold=3.5, ratios={"2": 0.25})
    assert widths(plan) == {"0": 1, "2": 3}


def test_a_plan_tells_its_strategies_as_data() -> None:
    deps = analyzed_chain(3, 8, 8, 2)
    plan = fxprune.plan(
        deps, ratio=0.5, scope="global", strategies={"1": {"criterion": L1(), "round_to": 4}}
    )
    assert plan.made["strategies"] == {"1": {"criterion": "L1", "round_to": 4}}
    assert plan.made["scope"] == "global"
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (0.5, r"strategies\['0'\] is 0.5"),
        ({"ration": 0.5}, r"strategies\['0'\] has the unknown option 'ration'"),
        ({"ratio": 1.5}, r"strategies\['0'\]: ratio is 1.5"),
        ({"scope": "local"}, r"strategies\['0'\]: unknown scope 'local'"),
        ({"criterion": "l3"}, r"strategies\['0'\]: unknown criterion 'l3'"),
        ({"normalize": "sum"}, r"strategies\['0'\]: unknown normalize 'sum'"),
        ({"max_ratio": 1.5}, r"strategies\['0'\]: max_ratio is 1.5"),
        ({"ratio": 0.5, "max_ratio": 0.2}, r"ratio=0.5 is more than max_ratio=0.2"),
        ({"max_ratio": 0.2}, r"what is said for '0': ratio=0.5 is more than max_ratio=0.2"),
    ],
)
def test_a_strategy_that_cannot_be_is_refused(value: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        fxprune.plan(analyzed_chain(3, 8, 2), ratio=0.5, strategies={"0": value})


def test_a_strategy_that_does_not_say_how_much_switches_no_kind_on() -> None:
    deps = zoo("qkv_fused")
    (name,) = (group.name for group in deps.groups if group.kind == "heads")
    options: dict[str, Any] = {"ratio": 0.5, "heads": False}
    with pytest.raises(PlanError, match="would hold for nothing"):
        fxprune.plan(deps, strategies={name: {"round_to": 2}}, **options)
    plan = fxprune.plan(deps, strategies={name: {"ratio": 0.5}}, **options)
    assert plan.groups[name].removed


def test_a_strategy_for_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="no module with parameters matches"):
        fxprune.plan(analyzed_chain(3, 8, 2), strategies={"encoder": {"ratio": 0.5}})


# -- constraints ----------------------------------------------------------------------------


def test_so_many_channels_stay_at_least() -> None:
    deps = analyzed_chain(3, 16, 4, 2)
    assert widths(fxprune.plan(deps, ratio=0.9, min_channels=6)) == {"0": 6, "1": 4}


def test_at_most_a_share_of_each_group_goes() -> None:
    model = chain_of([1, 2, 3, 4], [10, 20, 30, 40])
    options: dict[str, Any] = {"scope": "global", "normalize": "none"}
    assert widths(by_rows(model, ratio=0.5, max_ratio=0.5, **options)) == {"0": 2, "2": 2}


def test_a_global_ratio_that_constraints_do_not_allow_is_refused_with_the_closest() -> None:
    deps = analyzed_chain(3, 16, 16, 2)
    with pytest.raises(PlanError, match=r"ratio 0.8 of 32 channels cannot go") as caught:
        fxprune.plan(deps, ratio=0.8, scope="global", min_channels=8)
    assert "at most 16 may" in caught.value.why
    assert caught.value.hint == "the closest ratio is 0.5"
    plan = fxprune.plan(deps, ratio=0.5, scope="global", min_channels=8)
    assert widths(plan) == {"0": 8, "1": 8}


def test_a_ratio_above_the_largest_is_refused() -> None:
    with pytest.raises(InputError, match=r"ratio=0.5 is more than max_ratio=0.3") as caught:
        fxprune.plan(analyzed_chain(3, 8, 2), ratio=0.5, max_ratio=0.3)
    assert "0.3" in caught.value.hint


@pytest.mark.parametrize("value", [0, -1, 1.5, None, True])
def test_a_least_width_that_is_no_positive_integer_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="min_channels is"):
        fxprune.plan(analyzed_chain(3, 8, 2), min_channels=value)


def test_units_of_a_multiple_are_ranked_by_their_mean() -> None:
    model = chain_of([1, 9, 9, 9], [3, 3, 8, 8])
    plan = by_rows(model, ratio=0.25, scope="global", normalize="none", round_to=2)
    assert plan.groups["2"].removed == (0, 1)  # a mean of 3; the other group's lowest two have 5
    assert plan.groups["0"].removed == ()


# -- keep -----------------------------------------------------------------------------------


def test_channels_that_are_to_stay_do() -> None:
    model = chain_of([1, 2, 3, 4])
    assert by_rows(model, ratio=0.5, keep={"0": [0, 2]}).groups["0"].removed == (1, 3)
    assert by_rows(model, ratio=0.75, keep={"0": [0, 2]}).groups["0"].removed == (1, 3)


def test_a_pinned_channel_that_is_to_stay_does() -> None:
    model = chain_of([1, 2, 3, 4])
    assert by_rows(model, ratio=0.5, keep={"2": [0]}).groups["0"].removed == (0, 1)


def test_a_channel_cannot_go_and_stay() -> None:
    with pytest.raises(PlanError, match=r"channel 1 of 0 is to go, but keep names it, too"):
        fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": [2, 1]}, keep={"0": [1]})


@pytest.mark.parametrize(
    ("keep", "error", "match"),
    [
        ({"0": [8]}, PlanError, "channel 8 of 0 is out of range"),
        ({"9": [0]}, PlanError, "no module with parameters matches '9'"),
        ({"0": 3}, InputError, r"keep\['0'\] is 3"),
        ({"0": [True]}, InputError, r"keep\['0'\] is"),
        ([0], InputError, "keep is"),
    ],
)
def test_channels_to_stay_that_are_not_there_are_refused(
    keep: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        fxprune.plan(analyzed_chain(3, 8, 2), keep=keep)


def test_every_id_at_a_position_that_is_to_stay_stays() -> None:
    deps = zoo("qkv_fused")
    (heads,) = (group for group in deps.groups if group.kind == "heads")
    kept = fxprune.plan(deps, ratio=0.7, keep={heads.name: [0]}).groups[heads.name]
    assert 0 not in kept.removed


# -- explicit channels and constraints ------------------------------------------------------


def test_other_channels_stay_so_that_named_ones_leave_a_multiple() -> None:
    model = chain_of([1, 2, 3, 4, 5, 6, 7, 8])
    plan = by_rows(model, ratio=0.5, channels={"0": [7]}, round_to=4)
    assert plan.groups["0"].removed == (0, 1, 2, 7)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"round_to": 4}, "name 0 or 4 of them"),
        ({"min_channels": 7}, "name 1 of them"),
        ({"max_ratio": 0.125}, "name 1 of them"),
    ],
)
def test_named_channels_that_break_a_constraint_are_refused_with_the_closest(
    options: Any, hint: str
) -> None:
    with pytest.raises(PlanError, match=r"3 of the 8 channels of group 0 are to go") as caught:
        fxprune.plan(analyzed_chain(3, 8, 2), channels={"0": [1, 2, 3]}, **options)
    assert caught.value.hint == hint


@pytest.mark.parametrize("options", [{"round_to": 4}, {"min_channels": 3}, {"max_ratio": 0.25}])
@pytest.mark.parametrize("target", [None, {"params": 0.9}])
def test_constraints_hold_for_named_channels_of_kinds_that_ratios_do_not_take(
    options: Any, target: Any
) -> None:
    deps = zoo("qkv_separate")
    channels = {"1.inner.q[heads]": [0, 1]}
    with pytest.raises(PlanError, match="2 of the 4 channels of group"):
        fxprune.plan(deps, channels=channels, target=target, heads=False, **options)
    plan = fxprune.plan(deps, channels=channels, target=target, heads=False, round_to=2)
    assert plan.groups["1.inner.q[heads]"].removed == (0, 1)


class Branches(nn.Module):
    """Two blocks of one form, each of which can lose its branch."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


@pytest.mark.parametrize("options", [{"max_ratio": 0.5}, {"min_channels": 4}])
def test_a_group_that_is_to_keep_channels_does_not_go_as_a_whole(options: Any) -> None:
    channels = {"blocks.0.0": range(8)}
    with pytest.raises(PlanError, match=r"8 of the 8 channels of group blocks\.0\.0") as caught:
        fxprune.plan(Branches(), torch.zeros(1, 4), channels=channels, **options)
    assert caught.value.hint == "name 4 of them"


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("block", [0, 1])
def test_of_uniform_groups_all_or_none_go_as_a_whole(block: int, ratio: float) -> None:
    model, every = Branches(), range(8)
    with pytest.raises(PlanError, match="8 of the 8 channels of group") as caught:
        fxprune.plan(
            model, torch.zeros(1, 4), ratio, channels={f"blocks.{block}.0": every}, uniform=True
        )
    assert "as many of" in caught.value.hint
    both = {"blocks.0.0": every, "blocks.1.0": every}
    plan = fxprune.plan(model, torch.zeros(1, 4), ratio, channels=both, uniform=True)
    assert [plan.groups[name].width for name in both] == [0, 0]


def test_a_group_narrower_than_a_multiple_can_lose_named_channels() -> None:
    deps = analyzed_chain(3, 6, 16, 2)
    plan = fxprune.plan(deps, channels={"0": [1]}, round_to=8)
    assert widths(plan) == {"0": 5, "1": 16}
    with pytest.raises(PlanError, match=r"3 of the 6 channels of group 0 are to go"):
        fxprune.plan(deps, channels={"0": [1, 2, 3]}, round_to=8, min_channels=4)


# -- uniform --------------------------------------------------------------------------------


def test_groups_in_the_same_place_of_repeated_blocks_keep_the_same_width() -> None:
    model = small_vision_transformer()
    deps = fxprune.analyze(model, torch.zeros(1, 3, 32, 32))
    loose = fxprune.plan(deps, ratio=0.4, scope="global", round_to=2)
    plan = fxprune.plan(deps, ratio=0.4, scope="global", round_to=2, uniform=True)

    def of(plan: Plan, part: str) -> set[int]:
        return {g.width for name, g in plan.groups.items() if part in name and "encoder" in name}

    assert len(of(loose, ".mlp")) > 1
    assert len(of(plan, ".mlp")) == 1
    assert len(of(plan, "[heads]")) == 1
    assert sum(bool(g.removed) for g in plan.groups.values()) > 3
    fxprune.shrink(deps, plan, verify="quick")


def test_blocks_that_stay_uniform_lose_their_own_lowest_channels() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Linear(1, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
                for _ in range(2)
            )

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + layer(x)
            return x

    model = Twice()
    with torch.no_grad():
        for layer, rows in zip(model.layers, ([1, 2, 3, 4], [80, 70, 60, 50]), strict=True):
            layer[0].weight[:, 0] = torch.tensor(rows, dtype=torch.float32)
    plan = by_rows(model, ratio=0.5, scope="global", normalize="none", uniform=True)
    assert [g.removed for g in plan.groups.values() if g.removed] == [(0, 1), (2, 3)]


def test_named_channels_of_one_of_several_uniform_groups_are_refused() -> None:
    deps = analyzed_chain(8, 8, 8, 8, 2)  # layers 0 to 2, of one place and size
    with pytest.raises(PlanError, match=r"1 of the 8 channels of group 1 are to go") as caught:
        fxprune.plan(deps, channels={"1": [0]}, uniform=True)
    assert "as many of" in caught.value.hint


# -- what is given back ---------------------------------------------------------------------


class Halves(nn.Module):
    """The halves of one layer are added, so each must keep a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = nn.Linear(4, 16)
        self.left, self.right = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.fused(x).chunk(2, dim=1)
        out: Tensor = self.left(left) + self.right(right)
        return out


def test_a_width_remains_a_multiple_though_an_axis_gets_a_channel_back() -> None:
    model = Halves()
    with torch.no_grad():
        model.fused.weight[:8] = 1e-3
    deps = fxprune.analyze(model, torch.randn(1, 4))
    for multiple in (1, 2, 4):
        plan = fxprune.plan(deps, ratio=0.5, round_to=multiple)
        removed = np.array(plan.slices["fused.weight"][0])
        assert 0 < (removed < 8).sum() < 8
        assert (16 - len(removed)) % multiple == 0
