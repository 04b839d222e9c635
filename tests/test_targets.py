"""A plan for a budget: what it leaves of the model's cost."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune import DependencyGraph, InputError, PlanError, latency_check
from fxprune.importance import L1
from fxprune.planning.op_times import OpTimes
from tests.planning.models import analyzed_chain, chain
from tests.torchvision_models import models, small_vision_transformer

FIELDS = {"params": "parameters", "macs": "macs", "bytes": "bytes"}


@pytest.fixture(scope="module")
def resnet() -> DependencyGraph:
    return fxprune.analyze(models.resnet18(weights=None).eval(), torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("scope", ["group", "isomorphic", "global"])
@pytest.mark.parametrize("name", FIELDS)
def test_the_shrunk_model_costs_at_most_the_target_and_almost_as_much(
    resnet: DependencyGraph, name: str, scope: Any
) -> None:
    plan = fxprune.plan(resnet, target={name: 0.4}, scope=scope)
    report = fxprune.shrink(resnet, plan, verify=False).meta["fxprune"]
    share = getattr(report.after, FIELDS[name]) / getattr(report.before, FIELDS[name])
    assert 0.39 < share <= 0.4
    assert plan.made["target"] == {name: 0.4}
    assert plan.made["reached"] == {name: pytest.approx(share)}


class Shuffled(nn.Module):
    """Channels that are picked by a buffer, with few weights beside."""

    def __init__(self, *, is_small: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 64), nn.Linear(64, 2)
        self.register_buffer("order", torch.arange(64).flip(0))
        self.is_small = is_small

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x[:, self.order] if self.is_small else x[:, self.order] * x[:, self.order])


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("share", [0.95, 0.9, 0.85, 0.6])
def test_new_positions_count_where_channels_are_indexed(share: float, is_small: bool) -> None:
    deps = fxprune.analyze(Shuffled(is_small=is_small).eval(), torch.zeros(1, 2))
    plan = fxprune.plan(deps, target={"bytes": share})
    report = fxprune.shrink(deps, plan).meta["fxprune"]
    reached = report.after.bytes / report.before.bytes
    assert reached <= share
    assert plan.made["reached"]["bytes"] == reached
    assert plan.made["target"] == {"bytes": share}


def test_bytes_that_new_positions_put_out_of_reach_are_refused() -> None:
    deps = fxprune.analyze(Shuffled(is_small=False).eval(), torch.zeros(1, 2))
    least = fxprune.shrink(deps, fxprune.plan(deps, ratio=0.99)).meta["fxprune"]
    share = least.after.bytes / least.before.bytes
    assert fxprune.plan(deps, target={"bytes": share}).made["reached"]["bytes"] == share
    goal = share * 0.999
    with pytest.raises(PlanError, match=f"the target bytes {goal:g} cannot be met") as caught:
        fxprune.plan(deps, target={"bytes": goal})
    assert f"bytes can go down to {math.ceil(share * 1e4) / 1e4:g}" in caught.value.why


def test_several_costs_are_met_together(resnet: DependencyGraph) -> None:
    plan = fxprune.plan(resnet, target={"params": 0.5, "macs": 0.3})
    reached = plan.made["reached"]
    assert reached["params"] <= 0.5
    assert 0.29 < reached["macs"] <= 0.3


def test_constraints_hold_though_channels_are_given_back(resnet: DependencyGraph) -> None:
    plan = fxprune.plan(
        resnet, target={"macs": 0.5}, scope="global", round_to=8, min_channels=16, max_ratio=0.75
    )
    for group in plan.groups.values():
        assert group.width % 8 == 0
        assert group.width >= max(16, group.size // 4)
    assert 0.45 < plan.made["reached"]["macs"] <= 0.5


def test_a_first_unit_that_makes_a_multiple_is_not_given_back_alone() -> None:
    deps = analyzed_chain(3, 21, 22, 23, 5)
    for share in (0.9, 0.7, 0.5, 0.3):
        plan = fxprune.plan(deps, target={"params": share}, scope="global", round_to=4)
        assert all(g.width % 4 == 0 or g.width == g.size for g in plan.groups.values())


@pytest.mark.parametrize("scope", ["group", "global"])
def test_a_width_remains_a_multiple_though_named_channels_split_a_unit(scope: Any) -> None:
    for channel in range(21):
        deps = analyzed_chain(3, 21, 22, 23, 5)
        plan = fxprune.plan(
            deps, target={"params": 0.8}, scope=scope, round_to=4, channels={"0": [channel]}
        )
        assert channel in plan.groups["0"].removed
        assert all(g.width % 4 == 0 or g.width == g.size for g in plan.groups.values())


def test_under_a_target_others_go_with_named_channels_for_a_width_that_may_be() -> None:
    deps = analyzed_chain(8, 8, 8, 8, 2)  # layers 0 to 2, of one place and size
    for share in (0.9, 0.7, 0.5):
        options: dict[str, Any] = {"target": {"params": share}, "channels": {"1": [3]}}
        plan = fxprune.plan(deps, round_to=4, **options)
        assert 3 in plan.groups["1"].removed
        assert {g.width for g in plan.groups.values()} <= {4, 8}
        plan = fxprune.plan(deps, uniform=True, **options)
        assert 3 in plan.groups["1"].removed
        assert plan.groups["1"].width == plan.groups["2"].width
        assert plan.made["reached"]["params"] <= share


def test_uniform_widths_stay_uniform_under_a_target() -> None:
    model = small_vision_transformer()
    plan = fxprune.plan(
        model, torch.zeros(1, 3, 32, 32), target={"params": 0.5}, scope="global", uniform=True
    )
    for part in (".mlp", "[heads]"):
        assert len({g.width for n, g in plan.groups.items() if part in n and "encoder" in n}) == 1
    assert 0.45 < plan.made["reached"]["params"] <= 0.5


def test_what_is_said_of_some_groups_holds_under_a_target(resnet: DependencyGraph) -> None:
    plan = fxprune.plan(
        resnet,
        target={"params": 0.5},
        ratios={"layer1.0.conv1": 0.25},
        strategies={"layer4.0.conv1": {"ratio": 0.0}, "layer3.*": {"max_ratio": 0.25}},
        channels={"layer2.0.conv1": [3, 5]},
        keep={"layer2.1.conv1": range(100)},  # type: ignore[dict-item]  # a range will do
        ignore=["layer4.1.conv1"],
    )
    widths = {name: group.width for name, group in plan.groups.items()}
    assert widths["layer1.0.conv1"] == 48
    assert widths["layer4.0.conv1"] == widths["layer4.1.conv1"] == 512
    assert widths["layer3.0.conv1"] >= 192
    assert {3, 5} <= set(plan.groups["layer2.0.conv1"].removed)
    assert min(plan.groups["layer2.1.conv1"].removed) >= 100
    assert 0.49 < plan.made["reached"]["params"] <= 0.5


def test_a_target_of_all_removes_nothing(resnet: DependencyGraph) -> None:
    assert not any(g.removed for g in fxprune.plan(resnet, target={"macs": 1}).groups.values())


def test_a_target_that_cannot_be_met_is_refused_with_what_can(resnet: DependencyGraph) -> None:
    with pytest.raises(PlanError, match=r"the target macs 0.2 cannot be met") as caught:
        fxprune.plan(resnet, target={"macs": 0.2}, max_ratio=0.5)
    assert "macs can go down to 0." in caught.value.why


def test_a_criterion_is_asked_once_under_a_target(resnet: DependencyGraph) -> None:
    calls = []

    class Counted(L1):
        def evidence(self, deps: DependencyGraph) -> Any:
            calls.append(1)
            return super().evidence(deps)

    fxprune.plan(resnet, target={"params": 0.5}, criterion=Counted())
    assert calls == [1]


def test_a_users_cost_function_is_met() -> None:
    deps = analyzed_chain(3, 64, 64, 2)

    def cost(op: str, shapes: list[tuple[int, ...]]) -> float:
        return float(sum(map(math.prod, shapes)))

    plan = fxprune.plan(deps, target={"latency": 0.5}, cost=cost)
    assert 0.45 < plan.made["reached"]["latency"] <= 0.5


def test_a_measured_latency_is_met_by_the_whole_model(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operators take as long as they yield numbers, whole models as they have parameters."""

    def seconds(run: Any, device: torch.device) -> float:
        run()
        called = run.__closure__[-1].cell_contents
        return float(sum(parameter.numel() for parameter in called.parameters()))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(OpTimes, "_median", lambda self, run: float(run().numel()))
    monkeypatch.setattr(latency_check, "seconds", seconds)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 3, 3)
    ).eval()
    plan = fxprune.plan(model, torch.randn(2, 3, 48, 48), target={"latency": 0.7})
    report = fxprune.shrink(model, plan, torch.randn(2, 3, 48, 48)).meta["fxprune"]
    assert plan.made["reached"]["latency"] == report.after.parameters / report.before.parameters
    assert 0.6 <= plan.made["reached"]["latency"] <= 0.7


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target": {"params": 0.5}, "ratio": 0.5}, r"both ratio=0.5 and target="),
        ({"target": {"params": 0.5}, "threshold": 0.5}, r"both threshold=0.5 and target="),
        ({"ratio": 0.5, "threshold": 0.5}, r"both ratio=0.5 and threshold=0.5"),
        ({"target": {}}, "target is"),
        ({"target": 0.5}, "target is 0.5"),
        ({"target": {"flops": 0.5}}, "target names the unknown cost 'flops'"),
        ({"target": {"params": 1.5}}, r"target\['params'\] is 1.5"),
        ({"target": {"params": 0}}, r"target\['params'\] is 0"),
        ({"cost": len}, "a cost function is given, and no latency"),
    ],
)
def test_a_target_that_says_nothing_or_too_much_is_refused(options: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        fxprune.plan(chain(3, 8, 2), torch.zeros(1, 3), **options)


# -- by blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", ["params", "macs"])
def test_a_target_is_met_by_dropping_blocks_and_then_channels(
    resnet: DependencyGraph, counted: str
) -> None:
    plan = fxprune.plan(resnet, target={counted: 0.6}, by="blocks")
    assert plan.dropped
    assert 0.59 < plan.made["reached"][counted] <= 0.6
    report = fxprune.shrink(resnet, plan, verify="quick").meta["fxprune"]
    share = getattr(report.after, FIELDS[counted]) / getattr(report.before, FIELDS[counted])
    assert plan.made["reached"] == {counted: pytest.approx(share)}
    names = [node.name for node in fxprune.shrink(resnet, plan, verify=False).graph.nodes]
    for block in plan.dropped:
        assert not any(name.startswith(block.replace(".", "_")) for name in names)


def test_a_block_in_which_something_is_to_stay_is_not_dropped(resnet: DependencyGraph) -> None:
    options: dict[str, Any] = {"target": {"params": 0.6}, "by": "blocks"}
    block = fxprune.plan(resnet, **options).dropped[0]
    for staying in (
        {"ignore": [f"{block}.conv1"]},
        {"ignore": [f"{block[:-2]}*"]},
        {"keep": {f"{block}.conv1": [0]}},
        {"channels": {f"{block}.conv1": [0]}},
    ):
        plan = fxprune.plan(resnet, **options, **staying)
        assert block not in plan.dropped
        assert plan.made["reached"]["params"] <= 0.6


def test_a_target_beside_dropped_blocks_is_a_share_of_the_whole_model(
    resnet: DependencyGraph,
) -> None:
    plan = fxprune.plan(resnet, target={"params": 0.5, "bytes": 0.6}, drop=["layer4.1"])
    report = fxprune.shrink(resnet, plan, verify=False).meta["fxprune"]
    assert 0.49 < report.after.parameters / report.before.parameters <= 0.5
    assert plan.dropped == ("layer4.1",)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"by": "layers"}, "unknown by 'layers'"),
        ({"by": "blocks"}, 'by="blocks" needs a target'),
        ({"by": "blocks", "target": {"latency": 0.5}}, 'by="blocks" needs a target'),
        ({"by": "blocks", "target": {"params": 0.5, "macs": 0.5}}, 'by="blocks" needs a target'),
        ({"by": "blocks", "target": {"params": 0.5}, "drop": ["layer1.1"]}, "both by="),
        ({"target": {"latency": 0.5}, "drop": ["layer1.1"]}, "a latency is a share"),
    ],
)
def test_blocks_and_a_target_that_do_not_go_together_are_refused(
    resnet: DependencyGraph, options: Any, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        fxprune.plan(resnet, **options)
