"""Widths that suit the machine are found from times of operators, and plans keep to them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune import choosing
from fxprune.planning.host_widths import (
    ROLES,
    Role,
    group_multiple,
    host_multiples,
    measured_multiple,
)
from fxprune.planning.op_times import OpTimes
from tests.planning.models import analyzed_chain, zoo

CPU = torch.device("cpu")
IMAGE = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize("multiple", [16, 32])
def test_the_step_of_an_operator_is_its_multiple(multiple: int) -> None:
    assert measured_multiple(lambda width: 1.0 * math.ceil(width / multiple)) == multiple


def test_an_operator_without_steps_has_the_multiple_1() -> None:
    assert measured_multiple(lambda width: 7.0 + width) == 1
    assert measured_multiple(lambda width: 3.0) == 1


@pytest.mark.parametrize("multiple", [2, 4, 8, 16, 32])
def test_widths_that_are_slower_than_those_around_them_are_avoided(multiple: int) -> None:
    assert measured_multiple(lambda w: (100.0 + w) * (1.2 if w % multiple else 1)) == multiple


@pytest.mark.parametrize("taken", [None, 0.0])
def test_what_has_no_time_has_the_multiple_1(taken: float | None) -> None:
    assert measured_multiple(lambda width: taken) == 1
    assert measured_multiple(lambda width: taken if width == 97 else 1.0) == 1


def test_steps_that_are_lost_in_what_a_call_takes_anyway_do_not_count() -> None:
    assert measured_multiple(lambda width: 50.0 + math.ceil(width / 16)) == 1


def test_errors_of_measuring_make_no_multiple() -> None:
    assert measured_multiple(lambda w: (100.0 + w) * (1 + 0.025 * (-1) ** (w // 2))) == 1


def shapes_in(args: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of input and weight of an operator that is timed."""
    tensors = [arg.shape for arg in args if hasattr(arg, "shape")]
    inputs, weight = tensors[-2:] if len(tensors[0]) == 1 else tensors[:2]
    return inputs, weight


@pytest.fixture
def stepping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of 3x3 convolutions go in steps of 16, depthwise ones are best at multiples of 8."""

    def of(self: OpTimes, op: Any, args: Any, kwargs: Any) -> float:
        inputs, weight = shapes_in(args)
        if len(weight) == 2:
            return float(math.prod(weight))
        if weight[1] == 1:
            return weight[0] * (1.2 if weight[0] % 8 else 1.0)
        step = 16 if weight[2] == 3 else 1
        return float(inputs[1] * math.ceil(weight[0] / step) * step)

    monkeypatch.setattr(OpTimes, "of", of)


@pytest.mark.usefixtures("stepping")
def test_each_axis_of_each_kind_of_operator_is_measured(tmp_path: Path) -> None:
    found = host_multiples(CPU, folder=tmp_path)
    expected = dict.fromkeys(ROLES, 1) | {"convolution out": 16, "depthwise": 8}
    assert found == expected


def test_real_operators_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def once(self: OpTimes, run: Any) -> float:
        run()
        runs.append(1)
        return 1.0

    monkeypatch.setattr(OpTimes, "_median", once)
    assert host_multiples(CPU, folder=tmp_path) == dict.fromkeys(ROLES, 1)
    count = len(runs)
    assert 0 < count <= 17 * len(ROLES)
    host_multiples(CPU, folder=tmp_path)
    assert len(runs) == count


ALL_16: dict[Role, int] = dict.fromkeys(ROLES, 16)


def test_a_narrow_group_keeps_a_choice_of_widths() -> None:
    for size, multiple in ((64, 16), (32, 16), (31, 8), (24, 8), (8, 4), (4, 2), (3, 1)):
        deps = analyzed_chain(4, size, 2)
        assert group_multiple(deps.shapes, ALL_16, deps.group("0")) == multiple


def test_the_most_demanding_kind_of_layer_counts_for_the_whole_model() -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 128, 1), nn.Conv2d(128, 64, 1))
    deps = fxprune.analyze(model, IMAGE)
    multiples: dict[Role, int] = {"convolution out": 8, "pointwise in": 1, "linear in": 32}
    assert [group_multiple(deps.shapes, multiples, deps.group(n)) for n in ("0", "1")] == [8, 8]
    pointwise = fxprune.analyze(nn.Sequential(*list(model)[1:]), torch.zeros(1, 64, 8, 8))
    assert group_multiple(pointwise.shapes, multiples, pointwise.group("0")) == 1
    assert group_multiple(pointwise.shapes, {}, pointwise.group("0")) == 1


def test_a_head_counts_as_many_positions_as_it_has_dims() -> None:
    deps = zoo("qkv_fused")
    heads = next(g for g in deps.groups if g.kind == "heads")
    dims = len(next(m for m in heads.members).positions[0])
    multiples: dict[Role, int] = {"linear in": dims, "linear out": dims}
    assert group_multiple(deps.shapes, multiples, heads) == 1


# -- plans ----------------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose operators like multiples of 16."""
    monkeypatch.setattr(choosing, "host_multiples", lambda *given: dict(ALL_16))


@pytest.mark.usefixtures("host")
def test_a_plan_for_the_host_keeps_widths_that_suit_it() -> None:
    deps = analyzed_chain(4, 128, 64, 20, 2)
    plan = fxprune.plan(deps, ratio=0.45, round_to="host")
    assert [len(g.removed) for g in plan.groups.values()] == [48, 16, 4]  # 20 by 8
    assert plan.made["round_to"] == "host"
    assert plan.made["multiples"] == ALL_16
    assert fxprune.Plan.from_json(plan.to_json()).made == plan.made


def test_a_plan_for_a_ratio_measures_nothing_unless_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choosing, "host_multiples", lambda *given: pytest.fail("measured"))
    deps = analyzed_chain(4, 128, 2)
    for target in ({"ratio": 0.45}, {"target": {"macs": 0.5}}):
        assert fxprune.plan(deps, **target).made["round_to"] == 1  # type: ignore[arg-type]
    auto = fxprune.plan(deps, ratio=0.45, round_to="auto")
    assert auto.made == fxprune.plan(deps, ratio=0.45).made == {**auto.made, "round_to": 1}
    assert "multiples" not in auto.made


def test_a_cost_of_the_users_own_is_met_with_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "host_multiples", lambda *given: pytest.fail("measured"))
    deps = analyzed_chain(4, 128, 2)
    plan = fxprune.plan(
        deps, target={"latency": 0.5}, cost=lambda op, shapes: math.prod(shapes[-1])
    )
    assert plan.made["round_to"] == 1


@pytest.mark.usefixtures("host")
def test_a_measured_latency_is_met_with_widths_that_suit_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deps = analyzed_chain(4, 128, 128, 2)

    def measured(deps: Any, inputs: Any) -> Any:
        return lambda ids: 1 - len(ids) / 256

    monkeypatch.setattr(choosing, "measured_latency", measured)
    monkeypatch.setattr(
        choosing, "PredictedLatency", lambda deps, cost: lambda ids: 256.0 - len(ids)
    )
    plan = fxprune.plan(deps, target={"latency": 0.6})
    assert plan.made["round_to"] == "host"
    assert all((128 - len(g.removed)) % 16 == 0 for g in plan.groups.values())
    exact = fxprune.plan(deps, target={"latency": 0.6}, round_to=1)
    assert exact.made["round_to"] == 1
    assert any((128 - len(g.removed)) % 16 for g in exact.groups.values())


@pytest.mark.usefixtures("host")
def test_some_groups_alone_may_suit_the_host() -> None:
    deps = analyzed_chain(4, 128, 128, 2)
    plan = fxprune.plan(deps, ratio=0.45, strategies={"0": {"round_to": "host"}})
    assert [len(g.removed) for g in plan.groups.values()] == [48, 57]


@pytest.mark.usefixtures("host")
def test_groups_with_other_multiples_are_ranked_together_still() -> None:
    torch.manual_seed(0)
    deps = analyzed_chain(4, 128, 24, 2)
    with torch.no_grad():
        deps.model.get_parameter("0.weight").mul_(1e-3)
    plan = fxprune.plan(deps, ratio=0.5, scope="global", normalize="none", round_to="host")
    assert [len(g.removed) for g in plan.groups.values()] == [64, 0]


@pytest.mark.parametrize("value", ["8", "Host", "", 0])
def test_another_word_is_refused(value: Any) -> None:
    with pytest.raises(fxprune.InputError, match="round_to is") as caught:
        fxprune.plan(analyzed_chain(4, 8, 2), ratio=0.5, round_to=value)
    assert '"host"' in caught.value.hint
