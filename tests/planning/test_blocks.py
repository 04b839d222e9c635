"""Residual blocks are found without being named, and dropped up to a share of the cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import fxprune
from fxprune.planning.blocks import drop_to_budget, residual_blocks
from tests.test_dropping import IMAGES, NETWORKS, ROWS, Block, Inner, Net, Repeated, Tied, net


def names(model: nn.Module, inputs: Any) -> list[str]:
    return [block.name for block in residual_blocks(fxprune.analyze(model, inputs))]


FOUND = {
    "resnet18": ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"],
    "mobilenet_v2": [f"features.{k}" for k in (1, 3, 5, 6, 8, 9, 10, 12, 13, 15, 16)],
    "vit": [f"encoder.layers.encoder_layer_{k}" for k in range(3)],
    "convnext": ["features.1.0", "features.1.1", "features.3.0", "features.3.1"],
    "swin, with shifted windows": ["features.1.0", "features.1.1", "features.3.0", "features.3.1"],
}


@pytest.mark.parametrize("name", FOUND)
def test_the_blocks_of_a_network_are_found_and_not_its_stages(name: str) -> None:
    assert names(NETWORKS[name][0]().eval(), IMAGES) == FOUND[name]


def test_of_blocks_inside_one_another_the_outermost_counts() -> None:
    class Outer(nn.Module):
        """x + f(x), where a part of f is a residual block itself."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.fc = Inner(), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(self.inner(x))

    assert names(net(Net, Outer), ROWS) == ["blocks.0", "blocks.1", "blocks.2"]
    plan = fxprune.plan(net(Net, Outer), ROWS, drop=["*.inner"])
    assert plan.dropped == ("blocks.0.inner", "blocks.1.inner", "blocks.2.inner")


def test_a_block_tells_its_cost_and_its_own_groups() -> None:
    deps = fxprune.analyze(net(), ROWS)
    block = residual_blocks(deps)[1]
    assert (block.name, block.kind) == ("blocks.1", "Block")
    assert block.parameters == 8 * 16 * 2 + 16 + 8
    assert block.macs == 3 * 2 * 8 * 16
    total = sum(p.numel() for p in deps.model.parameters())
    assert block.params_share == block.parameters / total
    assert block.macs_share == block.macs / sum(w.macs(lambda t: t.shape) for w in deps.trace.work)
    assert block.groups == ("blocks.1.up",)


def test_tied_parameters_do_not_count_and_repeated_calls_do() -> None:
    (tied,) = residual_blocks(fxprune.analyze(net(Tied), ROWS))
    assert tied.parameters == 16 + 16 * 8 + 8
    assert tied.groups == ()
    repeated = residual_blocks(fxprune.analyze(net(Repeated), ROWS))
    assert [(block.name, block.macs) for block in repeated] == [("first", 1536), ("third", 768)]


def test_a_model_without_residual_blocks_has_none() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 8))
    assert names(model, ROWS) == []


def weighted() -> Any:
    """Blocks of equal cost, the middle one with the smallest weights, the last with the largest."""
    model = net()
    with torch.no_grad():
        for block, scale in zip(model.blocks, (1.0, 0.1, 10.0), strict=True):
            for parameter in block.parameters():
                parameter.fill_(scale)
    return model


def test_blocks_of_low_importance_go_first_as_long_as_the_share_allows() -> None:
    deps = fxprune.analyze(weighted(), ROWS)
    share = residual_blocks(deps)[0].params_share
    for count, expected in enumerate([(), ("blocks.1",), ("blocks.0", "blocks.1")]):
        found, reached = drop_to_budget(deps, count * share + 1e-6)
        assert found == expected
        assert reached == pytest.approx(count * share)
    assert drop_to_budget(deps, 0.0) == ((), 0.0)
    assert drop_to_budget(deps, share * 0.999) == ((), 0.0)


def test_what_is_reached_is_what_shrinking_saves() -> None:
    model = weighted()
    for counted in ("params", "macs"):
        deps = fxprune.analyze(model, ROWS)
        found, reached = drop_to_budget(deps, 0.6, counted)  # type: ignore[arg-type]
        assert found
        report: Any = fxprune.shrink(
            deps, fxprune.plan(deps, drop=found), ROWS, verify="quick"
        ).meta["fxprune"]
        cost = "parameters" if counted == "params" else "macs"
        before, after = getattr(report.before, cost), getattr(report.after, cost)
        assert reached == pytest.approx(1 - after / before)
        assert reached <= 0.6


def test_importance_counts_by_cost() -> None:
    class Small(Block):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(8, 2), nn.Linear(2, 8)

    model = net()
    model.blocks[0] = Small()
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            parameter.fill_(1.0)
    deps = fxprune.analyze(model, ROWS)
    share = {block.name: block.params_share for block in residual_blocks(deps)}
    found, _ = drop_to_budget(deps, share["blocks.1"] + 1e-6)
    assert found == ("blocks.1",)
    found, _ = drop_to_budget(deps, share["blocks.0"] + 1e-6)
    assert found == ("blocks.0",), "one that does not fit is passed over"


@pytest.mark.parametrize("target", [-0.1, 1, 1.0, True, "half", None])
def test_a_share_is_below_one(target: Any) -> None:
    with pytest.raises(fxprune.InputError, match="target is"):
        drop_to_budget(fxprune.analyze(net(), ROWS), target)


def test_params_and_macs_can_be_counted() -> None:
    counted: Any = "seconds"
    with pytest.raises(fxprune.InputError, match="counted is"):
        drop_to_budget(fxprune.analyze(net(), ROWS), 0.5, counted)


def test_the_blocks_of_a_graph_are_not_known() -> None:
    with pytest.raises(fxprune.PlanError, match="can be dropped"):
        residual_blocks(fxprune.analyze(fx.symbolic_trace(net()), ROWS))


# -- names inside of dropped blocks -------------------------------------------------------------


@pytest.mark.parametrize("name", ["blocks.1", "blocks.1.up", "blocks.1.*"])
@pytest.mark.parametrize("said", ["ratios", "strategies"])
def test_of_what_is_dropped_nothing_more_is_said(name: str, said: str) -> None:
    options: Any = {said: {name: 0.25 if said == "ratios" else {"ratio": 0.25, "round_to": 4}}}
    deps = fxprune.analyze(net(), ROWS)
    plan = fxprune.plan(deps, ROWS, 0.5, drop=["blocks.1"], **options)
    assert plan.groups == fxprune.plan(deps, ROWS, 0.5, drop=["blocks.1"]).groups
    assert plan.slices == fxprune.plan(deps, ROWS, 0.5, drop=["blocks.1"]).slices


def test_a_pattern_holds_for_what_is_left() -> None:
    deps = fxprune.analyze(net(), ROWS)
    plan = fxprune.plan(deps, ROWS, drop=["blocks.1"], ratios={"*.up": 0.25}, keep={"*.up": [3]})
    widths = {name: group.width for name, group in plan.groups.items() if name.endswith("up")}
    assert widths == {"blocks.0.up": 12, "blocks.2.up": 12}


@pytest.mark.parametrize("name", ["blocks.1.upp", "blocks.9", "up", "blocks.1.up[no"])
def test_a_name_that_means_nothing_of_the_original_is_refused_beside_a_drop(name: str) -> None:
    deps = fxprune.analyze(net(), ROWS)
    with pytest.raises(fxprune.PlanError, match="no module with parameters matches"):
        fxprune.plan(deps, ROWS, drop=["blocks.1"], ratios={name: 0.5})


@pytest.mark.parametrize("name", ["blocks.1", "blocks.1.up", "blocks.1.*"])
@pytest.mark.parametrize("option", ["keep", "channels", "ignore"])
def test_what_is_to_stay_or_to_go_by_itself_and_is_dropped_is_a_contradiction(
    name: str, option: str
) -> None:
    options: Any = {option: [name] if option == "ignore" else {name: [0]}}
    with pytest.raises(fxprune.PlanError) as caught:
        fxprune.plan(net(), ROWS, drop=["blocks.1"], **options)
    assert caught.value.what == f"{option} names '{name}', and block blocks.1 is dropped"
    assert caught.value.hint == f"leave blocks.1 out of drop=, or '{name}' out of {option}="


@pytest.mark.parametrize("said", ["ratios", "strategies"])
def test_blocks_that_a_budget_drops_may_have_been_named(said: str) -> None:
    each = {f"blocks.{k}.up": 0.25 if said == "ratios" else {"ratio": 0.25} for k in range(3)}
    options: Any = {said: each}
    plan = fxprune.plan(net(), ROWS, target={"params": 0.6}, by="blocks", **options)
    assert plan.dropped
    for name, group in plan.groups.items():
        if name.endswith("up"):
            assert group.width == 12


@pytest.mark.parametrize("name", ["blocks.9.up", "head"])
def test_a_name_that_means_nothing_of_the_original_is_refused_with_a_budget(name: str) -> None:
    options: Any = {"target": {"params": 0.6}, "by": "blocks", "ratios": {name: 0.5}}
    with pytest.raises(fxprune.PlanError):
        fxprune.plan(net(), ROWS, **options)
