"""Budgets are met from below and nearly, or refused with what can be met."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import fxprune
from fxprune import DependencyGraph, InputError, PlanError
from fxprune.labels import Ids
from fxprune.planning import Layout
from fxprune.planning.budgets import checked_target, meet
from fxprune.planning.candidates import CandidateCost
from tests.planning.families import Scores, in_multiples, l2, uniform
from tests.planning.models import analyzed_chain, zoo
from tests.torchvision_models import models

NETWORKS = ("resnet50", "mobilenet_v2", "vit_b_16", "densenet121")
TOLERANCE = 0.01


@cache
def network(name: str) -> tuple[DependencyGraph, Scores]:
    model = models.get_model(name, weights=None).eval()
    deps = fxprune.analyze(model, torch.zeros(1, 3, 224, 224))
    return deps, l2(deps)


@pytest.mark.parametrize("share", [0.7, 0.4])
@pytest.mark.parametrize("cost", ["params", "macs", "bytes"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_budget_is_met_from_below_within_one_percent(name: str, cost: str, share: float) -> None:
    deps, score = network(name)
    met = meet(deps, {cost: share}, uniform(deps, score), score)
    assert share * (1 - TOLERANCE) <= met.shares[cost] <= share
    field = {"params": "parameters"}.get(cost, cost)
    costs = CandidateCost(deps)
    left, dense = (getattr(c, field) for c in (costs(met.removed), costs.dense))
    assert met.shares == {cost: left / dense}
    Layout(deps, met.removed)


def test_the_share_that_is_met_is_that_of_the_shrunk_model() -> None:
    deps, score = network("mobilenet_v2")
    met = meet(deps, {"macs": 0.5}, uniform(deps, score), score)
    plan = fxprune.planning.choice.make_plan(deps, met.removed, {})
    report = fxprune.shrink(deps, plan, verify=False).meta["fxprune"]
    assert report.after.macs / report.before.macs == met.shares["macs"]


def test_of_several_targets_all_hold_and_one_is_met_nearly() -> None:
    deps, score = network("resnet50")
    target = {"params": 0.6, "macs": 0.5, "bytes": 0.9}
    met = meet(deps, target, uniform(deps, score), score)
    assert all(met.shares[name] <= share for name, share in target.items())
    assert any(met.shares[name] >= share * (1 - TOLERANCE) for name, share in target.items())
    assert list(met.shares) == list(target)


def test_a_target_of_one_removes_nothing() -> None:
    deps = analyzed_chain(4, 8, 2)
    score = l2(deps)
    met = meet(deps, {"params": 1.0}, uniform(deps, score), score)
    assert met.removed.size == 0
    assert met.shares == {"params": 1.0}


def test_what_can_be_met_is_told_if_the_target_cannot() -> None:
    deps = analyzed_chain(4, 8, 2)  # 58 parameters; with one channel left 4 + 1 + 2 + 2 = 9
    score = l2(deps)
    with pytest.raises(PlanError, match=r"the target params 0\.1 cannot be met") as caught:
        meet(deps, {"params": 0.1, "macs": 0.9}, uniform(deps, score), score)
    assert caught.value.why == "params can go down to 0.1552 of the model's"
    assert "ignore=" in caught.value.hint
    assert meet(deps, {"params": 0.1552}, uniform(deps, score), score).shares["params"] == 9 / 58


def test_all_targets_that_cannot_be_met_are_told() -> None:
    deps = analyzed_chain(4, 8, 2)
    score = l2(deps)
    with pytest.raises(PlanError, match=r"params 0\.1, macs 0\.1") as caught:
        meet(deps, {"params": 0.1, "macs": 0.1}, uniform(deps, score), score)
    assert "macs can go down to 0.125" in caught.value.why


def test_a_model_without_macs_keeps_all_of_them() -> None:
    deps = fxprune.analyze(torch.nn.ReLU(), torch.zeros(1, 2))
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(PlanError, match="macs can go down to 1 of the model's"):
        meet(deps, {"macs": 0.5}, lambda amount: empty, np.zeros(len(deps.trace.labels)))


def test_channels_are_given_back_the_best_first() -> None:
    deps = analyzed_chain(4, 8, 2)
    ids = deps.group("0").ids
    score = np.zeros(len(deps.trace.labels))
    score[ids] = [3, 1, 4, 8, 5, 9, 2, 6]

    def all_or_nothing(amount: float) -> Ids:
        return ids[[0, 1, 2, 3, 4, 6]] if amount >= 0.5 else ids[:0]

    met = meet(deps, {"params": (58 - 2 * 7) / 58}, all_or_nothing, score)
    np.testing.assert_array_equal(met.removed, np.sort(ids[[1, 6]]))


def test_given_back_is_what_still_fits_if_a_better_channel_does_not() -> None:
    deps = analyzed_chain(4, 8, 3, 2)
    wide, small = deps.group("0").ids, deps.group("1").ids  # 4 + 1 + 3 and 8 + 1 + 2 each
    score = np.zeros(len(deps.trace.labels))
    score[small] = 2
    score[wide] = 1
    removed = np.concatenate([wide[:1], small[:1]])
    whole = CandidateCost(deps).dense.parameters
    met = meet(deps, {"params": (whole - 9) / whole}, lambda a: removed[: 2 * (a > 0)], score)
    np.testing.assert_array_equal(met.removed, small[:1])


@pytest.mark.parametrize("name", ["resnet50", "densenet121"])
def test_given_back_are_whole_steps(name: str) -> None:
    deps, score = network(name)
    family, steps = uniform(deps, score, 8), in_multiples(deps, score, 8)
    met = meet(deps, {"params": 0.5}, family, score, steps=steps)
    gone = np.isin(np.arange(len(score)), met.removed)
    assert all(gone[group.ids].sum() % 8 == 0 for group in deps.groups)
    assert 0.49 < met.shares["params"] <= 0.5


def test_steps_that_are_coarse_are_met_from_below_and_told() -> None:
    deps = analyzed_chain(4, 16, 2)
    score = l2(deps)
    steps = in_multiples(deps, score, 8)
    met = meet(deps, {"params": 0.9}, uniform(deps, score, 8), score, steps=steps)
    assert len(met.removed) == 8
    assert met.shares == {"params": (8 * 7 + 2) / (16 * 7 + 2)}


@pytest.mark.parametrize("name", ["grouped_conv", "channel_shuffle", "residual", "qkv_fused"])
def test_what_is_left_of_a_zoo_model_is_a_layout(name: str) -> None:
    deps = zoo(name)
    score = l2(deps)
    met = meet(deps, {"params": 0.8}, uniform(deps, score), score)
    Layout(deps, met.removed)
    assert met.shares["params"] <= 0.8


@pytest.mark.parametrize(
    "target",
    [None, 0.5, {}, [("params", 0.5)], {"flops": 0.5}, {3: 0.5}, {"params": 0}, {"params": 1.01}]
    + [{"params": value} for value in (True, "half", None, float("nan"), -1, 50)]
    + [{"params": 0.5, "macs": 2}],
)
def test_a_bad_target_is_refused_with_what_would_be_right(target: Any) -> None:
    with pytest.raises(InputError, match="target") as caught:
        checked_target(target)
    assert caught.value.hint


def test_a_good_target_is_a_dict_of_floats() -> None:
    checked = checked_target({"params": 1, "latency": np.float32(0.5)})
    assert checked == {"params": 1.0, "latency": 0.5}
    assert {type(value) for value in checked.values()} == {float}


def test_a_latency_needs_a_prediction() -> None:
    deps = analyzed_chain(4, 8, 2)
    with pytest.raises(InputError, match="latency"):
        meet(deps, {"latency": 0.5}, uniform(deps, l2(deps)), l2(deps))


def chain_with(bias: float) -> tuple[Any, list[int], dict[str, Any]]:
    """A model of 100 channels that is slower than predicted, and the widths that were measured."""
    deps = analyzed_chain(4, 100, 2)
    score = l2(deps)
    seen: list[int] = []

    def measure(removed: Ids) -> float:
        seen.append(100 - len(removed))
        return min(1.0, (100 - len(removed)) / 100 * bias)

    options = {"latency": lambda removed: 7.0 * (100 - len(removed)), "measure": measure}
    return (deps, uniform(deps, score), score), seen, options


def test_a_prediction_that_is_right_is_measured_once() -> None:
    (deps, family, score), seen, options = chain_with(bias=1.0)
    met = meet(deps, {"latency": 0.5}, family, score, **options)
    assert seen == [50]
    assert met.shares == {"latency": 0.5}
    assert met.predicted == 0.5
    assert met.target == {"latency": 0.5}


@pytest.mark.parametrize("bias", [1.3, 0.7])
def test_a_prediction_that_is_wrong_is_corrected(bias: float) -> None:
    (deps, family, score), seen, options = chain_with(bias)
    met = meet(deps, {"latency": 0.5}, family, score, **options)
    assert 0.475 <= met.shares["latency"] <= 0.5
    assert met.predicted == pytest.approx(met.shares["latency"] / bias)
    assert len(seen) == 2


def test_corrections_grow_where_the_latency_goes_down_by_steps() -> None:
    (deps, family, score), seen, options = chain_with(bias=1.0)
    options["measure"] = lambda removed: (
        seen.append(100 - len(removed)) or (0.52 if len(removed) < 60 else 0.49)
    )
    met = meet(deps, {"latency": 0.5}, family, score, **options)
    assert met.shares["latency"] == 0.49
    assert seen == [50, 47, 41, 32]


def test_a_correction_beyond_what_can_be_predicted_is_halved() -> None:
    (deps, family, score), seen, options = chain_with(bias=1.0)
    predicted = options["latency"]
    options["latency"] = lambda removed: max(predicted(removed), 7.0 * 40)
    options["measure"] = lambda removed: (
        seen.append(100 - len(removed)) or (0.9 if len(removed) < 55 else 0.49)
    )
    met = meet(deps, {"latency": 0.5}, family, score, **options)
    assert met.shares["latency"] == 0.49
    assert seen == [50, 44]


def test_a_latency_that_is_never_met_is_told_with_what_was_measured() -> None:
    (deps, family, score), seen, options = chain_with(bias=1.0)
    options["measure"] = lambda removed: seen.append(0) or 0.8
    with pytest.raises(PlanError, match=r"a latency of 0\.5") as caught:
        meet(deps, {"latency": 0.5}, family, score, **options)
    assert caught.value.why.startswith("measured on the whole model: 0.800 (predicted 0.500), 0.8")
    assert 1 < len(seen) <= 5


def test_other_targets_hold_beside_a_measured_latency() -> None:
    (deps, family, score), _, options = chain_with(bias=0.5)
    met = meet(deps, {"latency": 0.5, "params": 0.3}, family, score, **options)
    assert met.shares["params"] <= 0.3
    assert met.shares["latency"] <= 0.5


def test_a_prediction_below_the_target_that_cannot_be_met_is_not_measured() -> None:
    (deps, family, score), seen, options = chain_with(bias=1.0)
    with pytest.raises(PlanError, match=r"latency can go down to 0\.01"):
        meet(deps, {"latency": 0.005}, family, score, **options)
    assert seen == []
