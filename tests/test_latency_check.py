"""The latency of whole models is measured in turns, and leaves the models alone."""

import numpy as np
import pytest
import torch
from torch import nn

import fxprune
from fxprune import InputError, latency_check
from fxprune.latency_check import latency_ratio, measured_latency
from fxprune.planning.budgets import meet
from fxprune.planning.latency import PredictedLatency
from tests.planning.families import l2, uniform
from tests.planning.models import Deciding, analyzed_chain
from tests.torchvision_models import models


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A forward takes as many seconds as the model has parameters, twice that every other time."""
    order: list[int] = []

    def seconds(run, device):
        run()
        model = run.__closure__[-1].cell_contents
        order.append(sum(p.numel() for p in model.parameters()))
        return order[-1] * (1.0 + (len(order) + 1) // 2 % 2)

    monkeypatch.setattr(latency_check, "seconds", seconds)
    return order


def test_both_models_are_called_in_turns_and_ratios_compared(clock: list[int]) -> None:
    deps = analyzed_chain(4, 8, 2)  # 58 parameters
    share = measured_latency(deps)(deps.group("0").ids[:4])
    assert share == 30 / 58
    assert clock[:4] == [58, 30, 58, 30]


def test_a_recorded_model_is_measured_as_a_module(clock: list[int]) -> None:
    example = torch.ones(3, 4)
    deps = fxprune.analyze(Deciding().eval(), example)
    assert deps.captured_by == "record"
    assert measured_latency(deps, example)(deps.group("first").ids[:4]) == 30 / 58


def test_measuring_changes_no_buffer_and_no_random_number() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)).train()
    deps = fxprune.analyze(model, torch.zeros(3, 4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert measured_latency(deps)(deps.group("0").ids[:4]) > 0
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_a_model_takes_about_as_long_as_itself() -> None:
    deps = analyzed_chain(4, 8, 2)
    ratio = latency_ratio(deps, deps.graph_module, deps.graph_module, [torch.zeros(1, 4)])
    assert np.isfinite(ratio)
    assert ratio > 0


def test_a_model_without_data_is_refused() -> None:
    deps = fxprune.analyze(nn.Linear(3, 4, device="meta"), torch.zeros(1, 3))
    with pytest.raises(InputError, match="meta device"):
        measured_latency(deps)


@pytest.mark.slow
def test_a_latency_is_met_when_the_whole_of_resnet50_is_measured(tmp_path) -> None:
    deps = fxprune.analyze(models.resnet50(weights=None).eval(), torch.zeros(1, 3, 128, 128))
    score = l2(deps)
    met = meet(
        deps,
        {"latency": 0.6},
        uniform(deps, score),
        score,
        latency=PredictedLatency(deps, folder=tmp_path),
        measure=measured_latency(deps),
    )
    assert met.shares["latency"] <= 0.6
    assert met.predicted is not None
