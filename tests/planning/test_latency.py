"""Latency is predicted from operators: by a user's function, or by what was measured."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import fxprune
from fxprune import DependencyGraph, InputError
from fxprune.labels import Ids
from fxprune.planning import Layout
from fxprune.planning.budgets import meet
from fxprune.planning.candidates import CandidateCost
from fxprune.planning.host_widths import ROLES
from fxprune.planning.latency import PredictedLatency
from fxprune.planning.op_times import OpTimes, Shaped
from models_zoo import ZOO
from tests.planning.families import l2, uniform
from tests.planning.models import analyzed_chain, zoo

NOTHING = np.zeros(0, dtype=np.int64)


def macs(name: str, shapes: list[tuple[int, ...]]) -> float:
    """The cost of matrix products alone."""
    if name != "aten::addmm":
        return 0
    _, x, weight, _ = shapes
    return math.prod(x) * weight[1]


@pytest.fixture
def by_elements(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """An operator takes as long as its first operand has elements; and what was measured."""
    asked: list[list[Any]] = []

    def of(self: OpTimes, op: Any, args: Any, kwargs: Any) -> float | None:
        asked.append([str(op), *args])
        first = next(a for a in tree_leaves(args) if isinstance(a, Shaped))
        return float(math.prod(first.shape))

    monkeypatch.setattr(OpTimes, "of", of)
    return asked


def test_a_cost_function_is_summed_over_operators_at_exact_shapes() -> None:
    deps = analyzed_chain(4, 8, 6, 2)
    removed = np.concatenate([deps.group("0").ids[:3], deps.group("1").ids[:1]])
    latency, cost = PredictedLatency(deps, macs), CandidateCost(deps)
    assert latency(NOTHING) == cost.dense.macs
    assert latency(removed) == cost(removed).macs == 4 * 5 + 5 * 5 + 5 * 2


@pytest.mark.parametrize("name", ["residual", "grouped_conv", "qkv_fused", "group_norm", "mixer"])
def test_a_cost_function_sees_the_shapes_of_the_shrunk_model(name: str) -> None:
    deps = zoo(name)
    plan = fxprune.plan(deps, ratio=0.5)
    removed = np.concatenate([deps.group(n).ids[list(g.removed)] for n, g in plan.groups.items()])
    seen: list[list[tuple[int, ...]]] = []

    def cost(name: str, shapes: list[tuple[int, ...]]) -> float:
        seen.append([name, *shapes])
        return 1.0

    small = fxprune.shrink(deps, plan, verify=False)
    PredictedLatency(fxprune.analyze(small, ZOO[name].example_inputs()), cost)(NOTHING)
    expected = {(name, *shapes) for name, *shapes in seen}
    latency = PredictedLatency(deps, cost)
    seen.clear()
    latency(removed)
    assert {(name, *shapes) for name, *shapes in seen} == expected


def test_with_a_cost_function_nothing_is_measured(
    tmp_path: Path, by_elements: list[list[Any]]
) -> None:
    deps = analyzed_chain(4, 8, 2)
    PredictedLatency(deps, macs, tmp_path)(deps.group("0").ids[:3])
    assert by_elements == []
    assert list(tmp_path.iterdir()) == []


def test_a_budget_by_a_cost_function_is_met() -> None:
    deps = zoo("vgg")
    score = l2(deps)

    def elements(name: str, shapes: list[tuple[int, ...]]) -> float:
        return sum(map(math.prod, shapes))

    latency = PredictedLatency(deps, elements)
    met = meet(deps, {"latency": 0.5}, uniform(deps, score), score, latency=latency)
    assert latency(met.removed) / latency(NOTHING) == met.shares["latency"] <= 0.5
    assert met.predicted is None


@pytest.mark.parametrize("value", [None, "1", -1, float("nan"), float("inf"), True])
def test_what_is_no_cost_is_refused(value: Any) -> None:
    latency = PredictedLatency(analyzed_chain(4, 8, 2), lambda name, shapes: value)
    with pytest.raises(InputError, match="the cost function returns") as caught:
        latency(NOTHING)
    assert "aten::addmm" in str(caught.value.where)


def test_a_cost_function_that_fails_is_refused_with_its_operator() -> None:
    def cost(name: str, shapes: list[tuple[int, ...]]) -> float:
        return {}[name]

    with pytest.raises(InputError, match="the cost function fails: KeyError") as caught:
        PredictedLatency(analyzed_chain(4, 8, 2), cost)(NOTHING)
    assert "aten::addmm" in str(caught.value.where)


def test_a_cost_that_is_no_function_is_refused() -> None:
    with pytest.raises(InputError, match=r"cost is 3") as caught:
        PredictedLatency(analyzed_chain(4, 8, 2), 3)  # type: ignore[arg-type]
    assert "function" in caught.value.hint


def widths(by_elements: list[list[Any]], op: str) -> set[tuple[int, ...]]:
    return {args[1].shape for name, *args in by_elements if name == op}


def test_operators_are_measured_at_eighths_and_interpolated(by_elements: list[list[Any]]) -> None:
    model = nn.Sequential(nn.Linear(3, 64, bias=False), nn.ReLU(), nn.Linear(64, 2, bias=False))
    deps = fxprune.analyze(model, torch.zeros(5, 3))
    latency = PredictedLatency(deps)
    total = latency(deps.group("0").ids[:11])
    assert widths(by_elements, "aten.mm.default") == {(3, n) for n in (64, 48, 56)} | {
        (n, 2) for n in (64, 48, 56)
    }
    assert total == 5 * 3 + 2 * 5 * 53  # linear in the width, so that interpolation is exact


def test_two_axes_are_interpolated_in_both(by_elements: list[list[Any]]) -> None:
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in ((3, 16), (16, 8), (8, 2))))
    deps = fxprune.analyze(model, torch.zeros(5, 3))
    latency = PredictedLatency(deps)
    removed = np.concatenate([deps.group("0").ids[:3], deps.group("1").ids[:2]])
    assert latency(removed) == 5 * 3 + 5 * 13 + 5 * 6
    assert {(14, 6), (12, 6)} <= widths(by_elements, "aten.mm.default")


def test_many_axes_are_interpolated_by_their_elements(by_elements: list[list[Any]]) -> None:
    deps = zoo("inception")
    latency = PredictedLatency(deps)
    shares = [latency(uniform(deps, l2(deps))(a)) / latency(NOTHING) for a in (0, 0.3, 0.6, 1)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("name", ZOO)
def test_the_latency_of_any_model_is_predicted_and_shrinks(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(OpTimes, "_median", lambda self, run: float(run() is not None))
    deps = zoo(name)
    latency = PredictedLatency(deps, folder=tmp_path)
    whole = latency(NOTHING)
    assert 0 < whole <= len(latency._calls)
    for amount in (0.3, 1.0):
        assert 0 < latency(uniform(deps, l2(deps))(amount)) <= whole + 1e-9


def operators_that_do_not_run(deps: DependencyGraph, folder: Path, removed: Ids) -> set[str]:
    """The operators of a model that cannot be run alone at the widths around a removal."""
    latency = PredictedLatency(deps, folder=folder)
    latency(removed)
    assert latency._times is not None
    return {key.split()[0] for key, value in latency._times._known.items() if value is None}


@pytest.mark.parametrize(
    "name", ["residual", "inverted_residual", "group_norm", "group_norm_layer", "unet"]
)
def test_numbers_that_tell_widths_follow(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(OpTimes, "_median", lambda self, run: float(run() is not None))
    deps = zoo(name)
    removed = uniform(deps, l2(deps))(0.5)
    Layout(deps, removed)
    assert operators_that_do_not_run(deps, tmp_path, removed) == set()


def test_an_operator_that_refuses_a_width_counts_by_its_elements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of(self: OpTimes, op: Any, args: Any, kwargs: Any) -> float | None:
        return 10.0 if args[0].shape == (5, 8) else None

    monkeypatch.setattr(OpTimes, "of", of)
    model = nn.Sequential(nn.Linear(3, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    deps = fxprune.analyze(model, torch.zeros(5, 3))
    latency = PredictedLatency(deps)
    assert latency(NOTHING) == 20  # the relu and the second product; the first has no dense time
    second = (5 * 4 + 4 * 2 + 5 * 2) / (5 * 8 + 8 * 2 + 5 * 2)
    assert latency(deps.group("0").ids[:4]) == pytest.approx(10 * 0.5 + 10 * second)


def test_measured_times_are_kept_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deps = analyzed_chain(4, 16, 2)
    removed = deps.group("0").ids[:3]
    first = PredictedLatency(deps, folder=tmp_path)(removed)
    assert first > 0
    monkeypatch.setattr(OpTimes, "_median", lambda self, run: pytest.fail("measured again"))
    assert PredictedLatency(deps, folder=tmp_path)(removed) == first


def test_what_was_measured_when_ctrl_c_comes_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def measured(self: OpTimes, op: Any, *_: Any) -> float:
        asked.append(op)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(OpTimes, "_measured", measured)
    deps = analyzed_chain(4, 16, 8, 2)
    with pytest.raises(KeyboardInterrupt):
        PredictedLatency(deps, folder=tmp_path)(NOTHING)
    (file,) = tmp_path.iterdir()
    assert len(json.loads(file.read_text())["times"]) == 2
    PredictedLatency(deps, folder=tmp_path)(NOTHING)
    whole = len(json.loads(file.read_text())["times"])
    assert len(asked) == 1 + whole  # one began twice, none that was finished


# -- steps ----------------------------------------------------------------------------------

STEP = 16


def stepped(op: Any, args: Any, kwargs: Any) -> float:
    """Products go in steps of 16 columns and of 16 rows, and widths that are odd cost more."""
    tensors = [a for a in tree_leaves(args) if isinstance(a, Shaped)]
    if len(tensors) < 2:
        return 0.0
    rows, columns = tensors[-1].shape
    odd = 1.25 if rows % 2 or columns % 2 else 1.0
    return odd * math.prod(math.ceil(n / STEP) * STEP for n in (rows, columns))


@pytest.fixture
def by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpTimes, "of", lambda self, op, args, kwargs: stepped(op, args, kwargs))


@pytest.mark.usefixtures("by_steps")
def test_a_prediction_follows_the_steps_of_the_operators() -> None:
    model = nn.Sequential(nn.Linear(16, 128, bias=False), nn.Linear(128, 32, bias=False))
    deps = fxprune.analyze(model, torch.zeros(5, 16))
    steps, ids = {"linear in": STEP, "linear out": STEP}, deps.group("0").ids
    latency = PredictedLatency(deps, multiples=steps)
    straight = PredictedLatency(deps, multiples={})
    for width in range(2, 129):
        slow = 1.25 if width % 2 else 1.0
        expected = slow * (16 + 32) * math.ceil(width / STEP) * STEP
        assert latency(ids[width:]) == pytest.approx(expected), width
    assert straight(ids[98:]) == pytest.approx((16 + 32) * (96 + 16 * 2 / 16))


@pytest.mark.usefixtures("by_steps")
def test_steps_of_two_axes_at_once_are_followed() -> None:
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in ((16, 64), (64, 96), (96, 16))))
    deps = fxprune.analyze(model, torch.zeros(5, 16))
    latency = PredictedLatency(deps, multiples={"linear in": STEP, "linear out": STEP})
    first, second = deps.group("0").ids, deps.group("1").ids
    for a, b in ((64, 96), (33, 50), (40, 33), (17, 81), (48, 95), (7, 3)):
        removed = np.concatenate([first[a:], second[b:]])
        wide = [math.ceil(n / STEP) * STEP for n in (a, b)]
        odd = [n % 2 == 1 for n in (a, b)]
        factor = [1.25 if each else 1.0 for each in (odd[0], any(odd), odd[1])]
        pairs = ((16, wide[0]), (wide[0], wide[1]), (wide[1], 16))
        expected = sum(f * math.prod(pair) for f, pair in zip(factor, pairs, strict=True))
        assert latency(removed) == pytest.approx(expected), (a, b)


@pytest.mark.usefixtures("by_steps")
def test_a_dense_width_that_is_no_multiple_is_known_exactly() -> None:
    model = nn.Sequential(nn.Linear(16, 75, bias=False), nn.Linear(75, 32, bias=False))
    deps = fxprune.analyze(model, torch.zeros(5, 16))
    latency = PredictedLatency(deps, multiples={"linear in": STEP, "linear out": STEP})
    assert latency(NOTHING) == 1.25 * (16 + 32) * 80
    assert latency(deps.group("0").ids[64:]) == (16 + 32) * 64


@pytest.mark.parametrize("name", ["residual", "inverted_residual", "inception", "qkv_fused"])
def test_the_machine_is_asked_for_its_steps(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(OpTimes, "_median", lambda self, run: float(run() is not None))
    deps = zoo(name)
    asked: list[Any] = []

    def multiples(*given: Any) -> dict[str, int]:
        asked.append(given)
        return dict.fromkeys(ROLES, 4)

    monkeypatch.setattr("fxprune.planning.latency.host_multiples", multiples)
    latency = PredictedLatency(deps, folder=tmp_path)
    assert asked == [(torch.device("cpu"), torch.float32, tmp_path)]
    whole = latency(NOTHING)
    for amount in (0.3, 0.6, 1.0):
        assert 0 < latency(uniform(deps, l2(deps))(amount)) <= whole + 1e-9
