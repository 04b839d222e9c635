"""Candidate plans side by side."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxprune
from fxprune import InputError, PlanError
from fxprune.reports import Candidate, Tradeoff, plan_digest
from fxprune.tradeoffs import KEPT_NORM, ORIGINAL, tradeoff
from tests.reports.samples import X, error, model, plan

PLANS = {"light": plan(0.25), "half": plan()}


def candidates(mode: Any, *rows: tuple[int, float | None]) -> Tradeoff:
    return Tradeoff(
        "m", mode, tuple(Candidate(f"{cost}/{value}", cost, -cost, value) for cost, value in rows)
    )


def test_a_candidate_that_another_beats_is_not_on_the_front() -> None:
    found = candidates("max", (1, 0.5), (2, 0.4), (3, 0.9), (3, 0.8), (4, 0.9), (5, None))
    assert [each.name for each in found.front("parameters")] == ["1/0.5", "3/0.9"]
    found = candidates("min", (1, 0.5), (2, 0.4), (3, 0.9), (3, 0.4))
    assert [each.name for each in found.front("parameters")] == ["1/0.5", "2/0.4"]


def test_candidates_that_are_the_same_are_all_on_the_front() -> None:
    found = candidates("max", (1, 0.5), (1, 0.5), (2, 0.5))
    assert [each.name for each in found.front("parameters")] == ["1/0.5", "1/0.5"]


def test_without_values_there_is_no_front() -> None:
    assert candidates("max", (1, None), (2, None)).front() == ()


def test_costs_are_those_of_the_shrunk_models_and_values_what_evaluate_returns() -> None:
    dense = model()
    found = tradeoff(dense, PLANS, X.double(), evaluate=error, metric="error", mode="min")
    assert (found.metric, found.mode) == ("error", "min")
    original, *others = found.candidates
    assert (original.name, original.value, original.plan) == (ORIGINAL, 0.0, "")
    assert original.parameters == sum(p.numel() for p in dense.parameters())
    for each, made in zip(others, PLANS.values(), strict=True):
        small = fxprune.shrink(dense, made, X.double())
        cost = small.meta["fxprune"].after
        assert (each.parameters, each.macs) == (cost.parameters, cost.macs)
        assert each.value == pytest.approx(error(small))
        assert each.plan == plan_digest(made)


def test_the_meaning_and_the_kind_of_the_models_can_be_chosen() -> None:
    seen = []

    def kind(given: Any) -> float:
        seen.append(given)
        return 1.0

    options: dict[str, Any] = {"emit": "module", "constants": "drop", "verify": False}
    tradeoff(model(), {"half": plan()}, X.double(), evaluate=kind, **options)
    assert vars(seen[1])["meta"]["fxprune"].emit == "module"
    tradeoff(model(), {"half": plan()}, X.double(), evaluate=kind, norm="exact")
    report = vars(seen[3])["meta"]["fxprune"]
    assert (report.emit, report.meaning.norm) == ("graph", "exact")
    assert report.verification is not None


@pytest.mark.parametrize("known", [{}, {"values": {"half": 1.0}}, {"evaluate": lambda _: 1.0}])
def test_biases_that_take_folded_constants_are_counted(known: dict[str, Any]) -> None:
    layers = [nn.Conv2d(3, 8, 1), nn.Sigmoid(), nn.Conv2d(8, 2, 1, bias=False)]
    dense = nn.Sequential(*layers).eval()
    half = fxprune.plan(dense, X, ratio=0.5)
    costs = []
    for constants in ("drop", "fold"):
        found = tradeoff(dense, {"half": half}, X, constants=constants, **known)
        small = fxprune.shrink(dense, half, X, constants=constants, verify=False)
        costs.append(found.candidates[-1].parameters)
        assert costs[-1] == small.meta["fxprune"].after.parameters
    assert costs == [4 * 4 + 4 * 2, 4 * 4 + 4 * 2 + 2]


def test_evaluate_gets_a_copy_of_the_original() -> None:
    dense = model()
    before = {name: p.clone() for name, p in dense.named_parameters()}

    def spoil(given: nn.Module) -> float:
        with torch.no_grad():
            for parameter in given.parameters():
                parameter.zero_()
        return 1.0

    tradeoff(dense, PLANS, X.double(), evaluate=spoil)
    assert all(torch.equal(p, before[name]) for name, p in dense.named_parameters())


def test_known_values_are_taken_and_what_is_not_known_has_none() -> None:
    found = tradeoff(model(), PLANS, X.double(), values={"half": 0.5, ORIGINAL: 0.75})
    assert [(c.name, c.value) for c in found.candidates] == [
        (ORIGINAL, 0.75),
        ("light", None),
        ("half", 0.5),
    ]
    found = tradeoff(model(), PLANS, X.double(), values={"half": 0.5})
    assert [c.name for c in found.candidates] == ["light", "half"]


def test_without_values_it_is_the_share_of_the_squared_weights_that_is_left() -> None:
    net = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 2, bias=False))
    nn.init.ones_(net.get_parameter("0.weight"))
    nn.init.constant_(net.get_parameter("1.weight"), 2.0)
    made = fxprune.plan(net, torch.ones(1, 2), channels={"0": [1]})
    found = tradeoff(net, {"one": made}, torch.ones(1, 2))
    assert found.metric == KEPT_NORM
    assert [each.value for each in found.candidates] == [1.0, (6 + 6 * 4) / (8 + 8 * 4)]


def test_a_dropped_block_is_no_part_of_what_is_left() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2, bias=False)
            nn.init.ones_(self.inner.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = x + self.inner(x)
            return out

    net = nn.Sequential(Residual(), Residual())
    made = fxprune.plan(net, torch.ones(1, 2), drop=["1"])
    found = tradeoff(net, {"shorter": made}, torch.ones(1, 2))
    assert [each.value for each in found.candidates] == [1.0, 0.5]
    assert [each.macs for each in found.candidates] == [8, 4]
    assert [each.parameters for each in found.candidates] == [8, 4]


def test_plans_may_be_files(tmp_path: Path) -> None:
    plan().save(tmp_path / "plan.json")
    from_file = tradeoff(model(), {"half": tmp_path / "plan.json"}, X.double())
    assert from_file == tradeoff(model(), {"half": plan()}, X.double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "best"}, "mode='best' is not known"),
        ({"evaluate": error, "values": {"half": 1.0}}, "both known and to be found out"),
        ({"values": {"nobody": 1.0}}, "'nobody', which is no candidate"),
        ({"values": {"half": math.nan}}, "the candidate half is worth nan"),
        ({"values": {"half": "good"}}, "the candidate half is worth 'good'"),
        ({"evaluate": lambda _: None}, "is worth None"),
        ({"evaluate": lambda _: True}, "is worth True"),
        ({"evaluate": lambda _: torch.ones(2)}, "a finite number was expected"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tradeoff(model(), PLANS, X.double(), **options)


def test_a_scalar_tensor_is_a_number() -> None:
    found = tradeoff(model(), PLANS, X.double(), evaluate=lambda _: torch.tensor(0.5))
    assert {each.value for each in found.candidates} == {0.5}


def test_a_candidate_cannot_have_the_name_of_the_original() -> None:
    with pytest.raises(InputError, match="give it another name"):
        tradeoff(model(), {ORIGINAL: plan()}, X.double())


def test_a_plan_of_another_model_is_refused() -> None:
    with pytest.raises(PlanError, match="another model"):
        tradeoff(nn.Linear(3, 3), {"half": plan()}, torch.ones(1, 3))
